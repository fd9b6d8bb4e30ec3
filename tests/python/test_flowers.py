"""The main job on real photographs: features, then logistic regression, on five fixed splits of 400 flowers.

The split rule, the same in every language: for split s = 0 to 4 and a photograph `<class>/<file name>`, take
the SHA-256 of the UTF-8 text `<s>/<class>/<file name>`. Within each class sort them by that hash, as lower
case hex; the first 24 of the 80 are for testing, the other 56 for training. No photograph is in both.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import seeded
import sparkdl
from sparkdl.models import named_model

keras = pytest.importorskip("keras")
sklearn_linear = pytest.importorskip("sklearn.linear_model")

pytestmark = pytest.mark.classic

SPLITS = 5
TEST_SHARE = 0.3


def photographs(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "flowers").glob("*/*.jpg"))


def is_test(split: int, files: list[Path]) -> list[bool]:
    """For each photograph whether the split tests on it."""
    classes: dict[str, list[tuple[str, Path]]] = {}
    for file in files:
        name = f"{split}/{file.parent.name}/{file.name}"
        classes.setdefault(file.parent.name, []).append((hashlib.sha256(name.encode()).hexdigest(), file))
    tested = set()
    for members in classes.values():
        tested |= {file for _, file in sorted(members)[: round(TEST_SHARE * len(members))]}
    return [file in tested for file in files]


def test_splits_are_stratified_and_differ(shared_data: Path) -> None:
    files = photographs(shared_data)
    assert len(files) == 400
    splits = [is_test(split, files) for split in range(SPLITS)]
    for tested in splits:
        names = [file.parent.name for file, is_tested in zip(files, tested, strict=True) if is_tested]
        assert {name: names.count(name) for name in names} == dict.fromkeys(names, 24)
    assert len({tuple(tested) for tested in splits}) == SPLITS


def test_mean_accuracy_is_that_of_keras_features(spark: Any, shared_data: Path) -> None:
    files = photographs(shared_data)
    ours = np.mean(spark_accuracies(spark, shared_data, files))
    theirs = np.mean(keras_accuracies(shared_data, files))
    print(
        f"mean accuracy over {SPLITS} splits: ours {ours:.4f}, scikit-learn on Keras' features {theirs:.4f}"
    )
    assert ours >= 0.78
    assert abs(ours - theirs) <= 0.02


def spark_accuracies(spark: Any, shared_data: Path, files: list[Path]) -> list[float]:
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import MulticlassClassificationEvaluator

    labels = sorted({file.parent.name for file in files})
    rows = [
        (str(file), float(labels.index(file.parent.name)), bytearray(file.read_bytes())) for file in files
    ]
    frame = spark.createDataFrame(rows, "path string, label double, content binary").repartition(4)
    featurizer = sparkdl.DeepImageFeaturizer(
        inputCol="content",
        outputCol="features",
        modelName="MobileNet",
        weights=str(shared_data / "models" / "mobilenet_0.25_224.keras"),
    )
    evaluator = MulticlassClassificationEvaluator(metricName="accuracy")
    accuracies = []
    for split in range(SPLITS):
        tested = {str(file) for file, hit in zip(files, is_test(split, files), strict=True) if hit}
        train, test = frame.where(~frame.path.isin(tested)), frame.where(frame.path.isin(tested))
        # The objective of scikit-learn's C = 1 for 280 photographs.
        regression = LogisticRegression(maxIter=200, regParam=1 / 280, standardization=False)
        fitted = Pipeline(stages=[featurizer, regression]).fit(train)
        accuracies.append(evaluator.evaluate(fitted.transform(test)))
    return accuracies


def keras_accuracies(shared_data: Path, files: list[Path]) -> list[float]:
    features = keras_features(shared_data, files)
    names = np.array([file.parent.name for file in files])
    accuracies = []
    for split in range(SPLITS):
        tested = np.array(is_test(split, files))
        regression = sklearn_linear.LogisticRegression(max_iter=2000)
        regression.fit(features[~tested], names[~tested])
        accuracies.append(float(regression.score(features[tested], names[tested])))
    return accuracies


def keras_features(shared_data: Path, files: list[Path]) -> npt.NDArray[np.float32]:
    row = named_model("MobileNet")
    model = keras.saving.load_model(shared_data / "models" / "mobilenet_0.25_224.keras", compile=False)
    body = keras.Model(model.inputs, model.get_layer(row.feature_layer).output)
    size = (row.width, row.height)
    pixels = [
        np.asarray(Image.open(io.BytesIO(f.read_bytes())).convert("RGB").resize(size, Image.Resampling.BOX))
        for f in files
    ]
    found = [
        body.predict_on_batch(seeded.preprocess(row, np.stack(pixels[i : i + 50]))) for i in range(0, 400, 50)
    ]
    return np.concatenate(found).mean((1, 2))
