"""A Scala job without any Python reads a Keras file, by both kinds of stage, and pictures by their names."""

import shutil
from collections.abc import Callable
from pathlib import Path

from .conftest import ROOT, Finished

# As a network of the table, and as a model of one's own.
SCORES = """
import org.apache.spark.ml.linalg.Vector
import sparkdl._
val photos = spark.read.format("binaryFile").load("photos/*/*.jpg").orderBy("path")
val predictor = new DeepImagePredictor().setInputCol("content").setOutputCol("scores")
predictor.setModelName("MobileNet").setWeights("network.keras")
val byContent = predictor.transform(photos).collect().toSeq.map(_.getAs[Vector]("scores").toArray.toSeq)
val reader = new KerasImageFileTransformer().setInputCol("path").setOutputCol("scores")
reader.setModelFile("network.keras").setPreprocessing("tf").setErrorCol("why")
val read = reader.transform(photos.select("path")).collect()
val byName = read.toSeq.map(_.getAs[Vector]("scores").toArray.toSeq)
println("ROWS " + byName.length + " " + read.count(_.getAs[String]("why") != null))
val apart = byContent.flatten.zip(byName.flatten).map { case (a, b) => math.abs(a - b) }
println("SAME " + (apart.max <= 1e-5 * byName.flatten.map(_.abs).max))
println("TOLD APART " + (byName.distinct.length > byName.length / 2))
"""


def test_a_network_of_the_table_and_a_model_of_ones_own_give_the_same_scores(
    scala_without_python: Callable[..., Finished], photos: Path, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "tests/fixtures/keras/mobilenet.keras", tmp_path / "network.keras")
    done = scala_without_python(SCORES)
    assert "ROWS 24 0" in done.output, done.output
    assert "SAME true" in done.output
    assert "TOLD APART true" in done.output
    assert "TENSORFLOW true" in done.output
    assert "LIBPYTHON false" in done.output
    assert "PYTHON PROCESS false" in done.output
    names = [file.name.split("-")[0] for file in (tmp_path / "cache/bundles").glob("*.sparkdl")]
    assert sorted(names) == ["MobileNet", "network"]
