"""Networks of the table in Scala without any Python: Keras files in, what Keras gives out."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import comparison
import seeded
from sparkdl.models import named_model

from .conftest import Finished

pytest.importorskip("keras")

FEW = ("MobileNet_0.25", "MobileNetV3Small", "ConvNeXtTiny")
# `make zoo` asks for the networks that it is called with, or for one of each family.
ASKED = os.environ.get("SPARKDL_ZOO_JVM")
NETWORKS = FEW if ASKED is None else ASKED.split() or comparison.FAMILIES

RUN = """
import org.apache.spark.ml.functions.vector_to_array
import org.apache.spark.sql.functions.col
import sparkdl._
for (name <- "NETWORKS".split(" ")) {
  val pictures = spark.read.format("binaryFile").load(s"$name/pictures").coalesce(1)
  val features = new DeepImageFeaturizer().setInputCol("content").setOutputCol("features")
    .setModelName(name).setWeights(s"$name/model.keras")
  val scores = new DeepImagePredictor().setInputCol("content").setOutputCol("scores")
    .setModelName(name).setWeights(s"$name/published.h5")
  scores.transform(features.transform(pictures))
    .select(col("path"), vector_to_array(col("features")).as("f"), vector_to_array(col("scores")).as("s"))
    .write.json(s"$name/found")
}
"""


def test_networks_give_in_scala_what_keras_gives(
    scala_without_python: Callable[..., Finished], tmp_path: Path
) -> None:
    expected = {}
    for name in NETWORKS:
        row, folder = named_model(name), tmp_path / name
        files, pixels = comparison.pictures(row, 3)
        (folder / "pictures").mkdir(parents=True)
        for number, file in enumerate(files):
            (folder / "pictures" / f"{number}.png").write_bytes(file)
        expected[name] = comparison.apart(seeded.written, row, pixels, folder)
        comparison.assert_tells_pictures_apart(expected[name])
    done = scala_without_python(RUN.replace("NETWORKS", " ".join(NETWORKS)))
    assert "LIBPYTHON false" in done.output, done.output
    assert "PYTHON PROCESS false" in done.output
    assert "TENSORFLOW true" in done.output
    for name, reference in expected.items():
        (lines,) = (tmp_path / name / "found").glob("*.json")
        rows = sorted(map(json.loads, lines.read_text().splitlines()), key=lambda found: found["path"])
        found = {"avg": [row["f"] for row in rows], "predictions": [row["s"] for row in rows]}
        probabilities = comparison.softmax(reference["predictions"])
        comparison.assert_equal(
            {key: np.array(values) for key, values in found.items()},
            {"avg": reference["avg"], "predictions": probabilities},
        )
