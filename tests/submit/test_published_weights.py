"""A Scala job without any Python: weights over HTTP, TensorFlow in a folder, the coordinate alone."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from .conftest import Finished

FILE = "mobilenet_1_0_224_tf.h5"

# Keras publishes no hash for MobileNet, so a network with weights of its own can stand on the mirror.
WRITE = """
import sys, keras
from h5py import File
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
with File(sys.argv[1], "w") as file:
    save_weights_to_hdf5_group(file, keras.applications.MobileNet(weights=None))
"""

PREDICT = """
import sparkdl._
val photos = spark.read.format("binaryFile").load("photos/*/*.jpg")
val predictor = new DeepImagePredictor().setInputCol("content").setOutputCol("classes")
predictor.setModelName("MobileNet").setDecodePredictions(true).setTopK(3)
val best = predictor.transform(photos).selectExpr("size(classes) as n", "classes[0].description as d")
println("ROWS " + best.collect().count(row => row.getInt(0) == 3 && row.getString(1).nonEmpty))
val maps = scala.io.Source.fromFile("/proc/self/maps").mkString
println("LIBPYTHON " + maps.contains("libpython"))
val children = ProcessHandle.current.descendants.map[String](_.info.command.orElse("")).toArray.mkString(" ")
println("PYTHON PROCESS " + children.contains("python"))
println("TENSORFLOW " + maps.contains("libtensorflow_cc"))
"""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "mirror"
    folder.mkdir()
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", WRITE, str(folder / FILE)], check=True, env=environment)
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def path_without_python(tmp_path: Path) -> str:
    """What PATH offers here, less every Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in ("/bin", "/usr/bin"):
        for tool in Path(place).iterdir():
            target = folder / tool.name
            if not tool.name.startswith(("python", "pydoc")) and not target.is_symlink():
                target.symlink_to(tool)
    return str(folder)


def test_a_scala_job_without_python_fetches_weights_and_predicts(
    mirror: str,
    path_without_python: str,
    spark_shell: Callable[..., Finished],
    coordinate: list[str],
    photos: Path,
    tmp_path: Path,
) -> None:
    package = Path(str(metadata.distribution("tensorflow-cpu").locate_file("tensorflow")))
    settings = {"tensorflow.path": str(package), "weightsUrl": mirror}
    conf = [part for key, value in settings.items() for part in ("--conf", f"spark.sparkdl.{key}={value}")]
    spark_home = str(metadata.distribution("pyspark").locate_file("pyspark"))
    done = spark_shell(
        PREDICT,
        *coordinate,
        *conf,
        PATH=path_without_python,
        SPARK_HOME=spark_home,
        PYSPARK_PYTHON="/none/python",
    )
    assert "ROWS 24" in done.output
    assert "TENSORFLOW true" in done.output
    assert "LIBPYTHON false" in done.output
    assert "PYTHON PROCESS false" in done.output
    assert (tmp_path / "cache/weights" / FILE).exists()
    assert len(list((tmp_path / "cache/bundles").glob("MobileNet-*.sparkdl"))) == 1
