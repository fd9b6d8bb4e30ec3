"""A Scala job without any Python: weights over HTTP, TensorFlow in a folder, the coordinate alone."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


def test_a_scala_job_without_python_fetches_weights_and_predicts(
    mirror: str, scala_without_python: Callable[..., Finished], photos: Path, tmp_path: Path
) -> None:
    done = scala_without_python(PREDICT, weightsUrl=mirror)
    assert "ROWS 24" in done.output
    assert "TENSORFLOW true" in done.output
    assert "LIBPYTHON false" in done.output
    assert "PYTHON PROCESS false" in done.output
    assert (tmp_path / "cache/weights" / FILE).exists()
    assert len(list((tmp_path / "cache/bundles").glob("MobileNet-*.sparkdl"))) == 1
