"""Saves stages and fitted pipelines in the face that SPARKDL_TEST_FACE names: `saved_by.py FOLDER BUNDLE`.

The models are read from BUNDLE, and from `tensors.keras` and `scores.keras` beside it, which the loading side
does not have. What the saving side computed goes to `FOLDER/expected.json`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression

from pictures import encoded, picture
from sessions import jar_answers, open_session
from sparkdl import (
    DeepImageFeaturizer,
    DeepImagePredictor,
    KerasImageFileTransformer,
    KerasTransformer,
)

ROWS = [(seed, float(seed % 2), encoded(picture(seed))) for seed in range(10)]
COLUMNS = "id int, label double, picture binary"
NUMBERS = [(n, [n % 10, 3, 1, (3 * n) % 10], [n - 2.5, 0.5, n / 3]) for n in range(6)]
NUMBER_COLUMNS = "id int, tokens array<int>, vector array<double>"
FILE_COLUMNS = "id int, uri string"


def main(folder: Path, bundle: str) -> None:
    face = os.environ["SPARKDL_TEST_FACE"]
    spark = open_session(face, folder / "warehouse")
    assert jar_answers(spark) == (face == "jvm")
    frame = spark.createDataFrame(ROWS, COLUMNS).repartition(1)
    featurizer = DeepImageFeaturizer(inputCol="picture", outputCol="features", modelName=bundle, batchSize=4)
    predictor = DeepImagePredictor(inputCol="picture", outputCol="best", modelName=bundle, topK=2)
    predictor.setParams(decodePredictions=True, labels=["a", "b", "c", "d"], maxPixels=2**40)
    regression = LogisticRegression(maxIter=20, regParam=0.01)
    model = Pipeline(stages=[featurizer, predictor, regression]).fit(frame)
    predictor.save(str(folder / "stage"))
    Pipeline(stages=[featurizer, regression]).write().overwrite().save(str(folder / "pipeline"))
    for _ in range(2):
        model.write().overwrite().save(str(folder / "model"))
    rows = model.transform(frame).orderBy("id").collect()
    saved_rows, saved_files = keras_stages(Path(bundle).parent)
    numbers = spark.createDataFrame(NUMBERS, NUMBER_COLUMNS)
    saved_rows.save(str(folder / "rows"))
    saved_files.save(str(folder / "files"))
    Pipeline(stages=[saved_rows]).fit(numbers).write().overwrite().save(str(folder / "numbers"))
    (folder / "a.png").write_bytes(encoded(picture(1)))
    expected = {
        "rows": values(saved_rows, numbers, "score"),
        "files": values(
            saved_files, spark.createDataFrame([(0, str(folder / "a.png"))], FILE_COLUMNS), "out"
        ),
        "uid": predictor.uid,
        "features": [row["features"].toArray().tolist() for row in rows],
        "best": [[c["description"] for c in row["best"]] for row in rows],
        "prediction": [row["prediction"] for row in rows],
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    spark.stop()


def keras_stages(folder: Path) -> tuple[KerasTransformer, KerasImageFileTransformer]:
    rows = KerasTransformer(
        inputCols=["vector", "tokens"],
        inputNames=["vector", "tokens"],
        outputCols=["score", "steps"],
        outputNames=["score", "steps"],
        modelFile=str(folder / "tensors.keras"),
    )
    files = KerasImageFileTransformer(inputCol="uri", outputCol="out", modelFile=str(folder / "scores.keras"))
    return rows, files.setInputSize([9, 7]).setPreprocessing("tf").setOutputMode("array")


def values(stage: Any, frame: Any, column: str) -> list[list[float]]:
    return [list(row[column]) for row in stage.transform(frame).orderBy("id").collect()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
