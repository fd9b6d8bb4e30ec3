"""The wheel in a virtual environment that holds nothing of ours besides it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import run

FEATURES = """
import json, sys
from pyspark.sql import SparkSession
from sparkdl import DeepImageFeaturizer
import sparkdl

assert "site-packages" in sparkdl.__file__, sparkdl.__file__
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
stage = DeepImageFeaturizer(inputCol="content", outputCol="features", modelName=sys.argv[1])
stage.setErrorCol("reason")
photos = spark.read.format("binaryFile").load("photos/*/*.jpg")
rows = stage.transform(photos).select("features", "reason").collect()
sizes = sorted({row["features"].size for row in rows})
reasons = [row["reason"] for row in rows if row["reason"] is not None]
print("FOUND " + json.dumps([len(rows), sizes, reasons]))
"""


@pytest.fixture
def features(tmp_path: Path, photos: Path, tiny: Path) -> Callable[..., str]:
    """Runs the script with an interpreter and an environment, and gives what it said."""

    def start(python: Path, env: dict[str, str]) -> str:
        script = tmp_path / "features.py"
        script.write_text(FEATURES)
        return run([python, script, tiny], tmp_path, env | {"PYSPARK_PYTHON": str(python)}).output

    return start


def test_a_fresh_environment_with_the_wheel_pyspark_and_tensorflow_computes_features(
    fresh_venv: Callable[[list[str]], Path], features: Callable[..., str], clean_env: dict[str, str]
) -> None:
    output = features(fresh_venv(["pyspark", "pandas", "tensorflow-cpu"]), clean_env)
    lines = [line for line in output.splitlines() if line.startswith("FOUND ")]
    assert lines, output
    assert json.loads(lines[0].removeprefix("FOUND ")) == [24, [8], []]


def test_without_tensorflow_one_error_names_every_place_and_the_mend(
    fresh_venv: Callable[[list[str]], Path], features: Callable[..., str], clean_env: dict[str, str]
) -> None:
    output = features(fresh_venv(["pyspark", "pandas"]), clean_env)
    assert "TensorFlow was not found. Looked at:" in output, output
    assert "spark.sparkdl.tensorflow.path [SPARKDL_TENSORFLOW_PATH]: not set" in output
    assert "no package tensorflow or tensorflow-cpu" in output
    assert "pip install tensorflow-cpu" in output
    assert "FOUND" not in output
