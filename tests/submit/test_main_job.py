"""The main job in Scala with nothing but the coordinate: as the README starts it, and on real flowers."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from .conftest import DIST, ROOT, Finished, run

EXAMPLES = ROOT / "spark-package/examples"
HERE = Path(__file__).parent


def test_the_scala_example_fits_saves_reloads_and_classifies(
    photos: Path, tmp_path: Path, clean_env: dict[str, str], version: str, coordinate: list[str]
) -> None:
    command: list[str | Path] = [
        Path(sys.executable).parent / "spark-submit",
        *("--master", "local[2]", "--conf", "spark.ui.enabled=false"),
        *("--conf", f"spark.jars.ivy={tmp_path / 'ivy'}", *coordinate),
        *("--class", "sparkdl.examples.PictureClassification"),
        DIST / f"examples/spark-deep-learning-examples_2.13-{version}.jar",
        *(photos, EXAMPLES / "small_network.sparkdl", tmp_path / "fitted"),
    ]
    done = run(command, tmp_path, clean_env)
    assert done.code == 0, done.output
    # Of each class's 12 photographs those at position 1, 2, 10, 11 and 12 are for testing.
    assert "14 pictures to train on, 10 others to test on" in done.output, done.output
    assert "accuracy 1.000" in done.output, done.output
    assert "reloaded, it predicts the same" in done.output, done.output
    assert len(re.findall(r"the network says \w", done.output)) == 4, done.output


@pytest.fixture
def flowers(tmp_path: Path, wheel_env: dict[str, str]) -> Path:
    """A folder that holds `flowers/` and `mobilenet.sparkdl`, exported from Keras' own weights."""
    data = Path(os.environ.get("SPARKDL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"real photographs and weights are not at {data}: set SPARKDL_TEST_DATA")
    (tmp_path / "flowers").symlink_to(data / "flowers")
    weights = data / "models/mobilenet_0.25_224.keras"
    export = ["export", "--model", "MobileNet", "--weights", weights, "--output", "mobilenet.sparkdl"]
    command = [sys.executable, "-m", "sparkdl", *export]
    subprocess.run(command, check=True, cwd=tmp_path, env=wheel_env)
    return tmp_path


def features(folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    rows = pq.read_table(folder).to_pylist()
    return {row["name"]: np.array(row["features"], np.float32) for row in rows}


def predictions(folder: Path) -> dict[tuple[int, str], tuple[float, float]]:
    rows = pq.read_table(folder).to_pylist()
    return {(int(row["split"]), row["name"]): (row["label"], row["prediction"]) for row in rows}


@pytest.mark.long
def test_scala_and_python_give_the_same_features_and_predictions_on_five_splits_of_the_flowers(
    flowers: Path, wheel_env: dict[str, str], spark_shell: Callable[..., Finished], coordinate: list[str]
) -> None:
    shell = spark_shell((HERE / "flowers.scala").read_text(), *coordinate)
    assert "SCRIPT ENDED" in shell.output, shell.output
    python = run([sys.executable, HERE / "flowers.py"], flowers, wheel_env)
    assert python.code == 0, python.output

    in_scala, in_python = features(flowers / "scala-features"), features(flowers / "python-features")
    assert len(in_scala) == 400
    assert in_scala.keys() == in_python.keys()
    largest = max(np.abs(values).max() for values in in_python.values())
    furthest = max(np.abs(in_scala[name] - in_python[name]).max() for name in in_scala)
    assert furthest <= 1e-5 * largest

    found = predictions(flowers / "scala-predictions")
    assert len(found) == 5 * 5 * 24
    assert found == predictions(flowers / "python-predictions")
    right = [label == prediction for label, prediction in found.values()]
    print(f"mean accuracy over 5 splits, in Scala: {np.mean(right):.4f}")
    assert np.mean(right) >= 0.78
