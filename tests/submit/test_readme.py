"""Every snippet of the README runs as printed, in a fresh process with the wheel or the jar alone."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, Finished, run

SESSION = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
"""

# No network here has the published weights: one with seeded weights takes their place in the cache folder.
FILL_CACHE = """
import sys
import keras
import sparkdl
from sparkdl import models

keras.utils.set_random_seed(5)
model = keras.applications.MobileNetV2(weights=None)
model.save("flowers.keras")
row = models.named_model("MobileNetV2")
sparkdl.export(row.name, f"{sys.argv[1]}/bundles/{row.name}-{row.bundle_key}.sparkdl", weights=model)
"""


def snippets(language: str) -> list[str]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return fence.findall((ROOT / "README.md").read_text())


@pytest.fixture
def filled_cache(tmp_path: Path, photos: Path, wheel_env: dict[str, str]) -> Path:
    """A cache folder that holds MobileNetV2; the working folder holds `photos/` and two Keras models."""
    folder = Path(wheel_env["SPARKDL_CACHE_DIR"])
    (folder / "bundles").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", FILL_CACHE, folder], check=True, cwd=tmp_path, env=wheel_env)
    shutil.copy(ROOT / "tests/fixtures/keras/tensors.keras", tmp_path / "reviews.keras")
    return folder


def python_program(blocks: list[str], folder: Path, env: dict[str, str]) -> str:
    script = folder / "readme.py"
    script.write_text("\n".join([*blocks, 'print("SCRIPT " + "ENDED")']))
    return run([sys.executable, script], folder, env).output


def test_the_python_snippets_run_and_then_the_scala_ones_on_what_they_saved(
    filled_cache: Path,
    tmp_path: Path,
    wheel_env: dict[str, str],
    spark_shell: Callable[..., Finished],
    coordinate: list[str],
) -> None:
    blocks = [block for block in snippets("python") if "SparkSession" not in block]
    output = python_program([SESSION, *blocks], tmp_path, wheel_env)
    assert "SCRIPT ENDED" in output, output
    scala = "\n".join(snippets("scala"))
    done = spark_shell(scala, *coordinate)
    assert "SCRIPT ENDED" in done.output, done.output


def test_the_sql_snippets_run_with_the_coordinate_alone(
    filled_cache: Path, tmp_path: Path, clean_env: dict[str, str], coordinate: list[str]
) -> None:
    script = tmp_path / "script.sql"
    script.write_text("\n".join([*snippets("sql"), "SELECT concat('SCRIPT ', 'ENDED');"]))
    launcher = Path(sys.executable).parent / "spark-sql"
    conf = ["--conf", "spark.ui.enabled=false", "--conf", f"spark.jars.ivy={tmp_path / 'ivy'}"]
    command = [launcher, "--master", "local[2]", *conf, *coordinate, "-f", script]
    done = run(command, tmp_path, clean_env | {"SPARKDL_CACHE_DIR": str(filled_cache)})
    assert "SCRIPT ENDED" in done.output, done.output
    assert done.output.count("probability") >= 5, done.output


def test_the_snippet_about_connect_runs_without_the_jar(
    filled_cache: Path, tmp_path: Path, wheel_env: dict[str, str]
) -> None:
    blocks = [block for block in snippets("python") if "SparkSession" in block]
    assert blocks
    for block in blocks:
        output = python_program([block], tmp_path, wheel_env)
        assert "SCRIPT ENDED" in output, output


def test_the_readme_shows_every_feature_in_both_languages() -> None:
    for language in ("python", "scala"):
        text = "\n".join(snippets(language))
        stages = (
            "DeepImageFeaturizer",
            "DeepImagePredictor",
            "KerasTransformer",
            "KerasImageFileTransformer",
            "TFTransformer",
            "TFImageTransformer",
        )
        for word in (*stages, "Pipeline", "readImages", "load("):
            assert word in text, f"the README has no {language} snippet with {word}"


def test_the_versions_in_the_readme_are_the_built_one(version: str) -> None:
    named = re.findall(r"spark-deep-learning_2\.13[:-](\d+\.\d+\.\d+)", (ROOT / "README.md").read_text())
    assert set(named) == {version}
