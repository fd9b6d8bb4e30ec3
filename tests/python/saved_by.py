"""Saves a stage and a fitted pipeline in the face that SPARKDL_TEST_FACE names: `saved_by.py FOLDER BUNDLE`.

The network is read from BUNDLE, which the loading side does not have. What the saving side computed goes to
`FOLDER/expected.json`.
"""

import json
import os
import sys
from pathlib import Path

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression

from pictures import encoded, picture
from sessions import jar_answers, open_session
from sparkdl import DeepImageFeaturizer, DeepImagePredictor

ROWS = [(seed, float(seed % 2), encoded(picture(seed))) for seed in range(10)]
COLUMNS = "id int, label double, picture binary"


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
    expected = {
        "uid": predictor.uid,
        "features": [row["features"].toArray().tolist() for row in rows],
        "best": [[c["description"] for c in row["best"]] for row in rows],
        "prediction": [row["prediction"] for row in rows],
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
