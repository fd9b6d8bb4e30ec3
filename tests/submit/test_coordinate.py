"""The jar, however it is given to Spark: by coordinate, by file, and on the class path of the JVM."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import DIST, Finished

LINES = """
import org.apache.spark.ml.linalg.Vector
val featurizer = new sparkdl.DeepImageFeaturizer()
  .setInputCol("content").setOutputCol("features").setModelName("BUNDLE").setErrorCol("reason")
val photos = spark.read.format("binaryFile").load("photos/*/*.jpg")
val rows = featurizer.transform(photos).select("features", "reason").collect()
println("ROWS " + rows.length + " SIZE " + rows.map(_.getAs[Vector]("features").size).distinct.mkString(","))
println("REASONS " + rows.count(!_.isNullAt(1)))
"""


def options(how: str, coordinate: list[str], jar: Path) -> list[str]:
    return {
        "--packages": coordinate,
        "--jars": ["--jars", str(jar)],
        "extraClassPath": ["--driver-class-path", str(jar)],
    }[how]


@pytest.mark.parametrize("how", ["--packages", "--jars", "extraClassPath"])
def test_a_shell_that_only_got_the_jar_computes_features(
    how: str, spark_shell: Callable[..., Finished], photos: Path, coordinate: list[str], jar: Path, tiny: Path
) -> None:
    done = spark_shell(LINES.replace("BUNDLE", str(tiny)), *options(how, coordinate, jar))
    assert "SCRIPT ENDED" in done.output, done.output
    assert "ROWS 24 SIZE 8" in done.output, done.output
    assert "REASONS 0" in done.output, done.output


def test_the_coordinate_asks_for_nothing_that_spark_does_not_bring(version: str) -> None:
    pom = DIST / f"maven/sparkdl/spark-deep-learning_2.13/{version}/spark-deep-learning_2.13-{version}.pom"
    text = re.sub(r' xmlns="[^"]+"', "", pom.read_text())
    dependencies = ET.fromstring(text).findall("./dependencies/dependency")
    needed = [
        d.findtext("artifactId") for d in dependencies if d.findtext("scope") not in {"provided", "test"}
    ]
    assert needed == []
