"""The only importer of the compiled module: what it knows, and models that it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparkdl import _native, _shipping


def version() -> str:
    """The version of the wheel and of the core."""
    return _native.version()


@cache
def error_kinds() -> dict[str, tuple[str, str]]:
    """Kind to Spark's error condition and SQLSTATE."""
    return {name: (condition, state) for name, condition, state in _native.error_kinds()}


def named_models() -> str:
    """The table of built-in models, as JSON."""
    return _native.named_models()


def imagenet_labels() -> str:
    """ImageNet's `[synset, label]` pairs in class order, as JSON."""
    return _native.imagenet_labels()


def describe_bundle(path: str | os.PathLike[str]) -> tuple[str, str]:
    """A bundle's manifest, as JSON, and the SHA-256 of the file. Checks the bundle, loads no TensorFlow."""
    return _native.describe_bundle(path)


def convert_keras(
    file: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model_name: str,
    published: bool = False,
    **choices: str,
) -> None:
    """Writes a Keras file as a bundle. Needs neither Keras nor TensorFlow.

    Without a `model_name` the bundle is the whole model as a graph on tensors. `published` says that the file
    is the one that Keras publishes for that model. `choices` are the core's `featureLayer` and `inputSize`.
    """
    options = {
        "file": os.fspath(file),
        "output": os.fspath(output),
        "modelName": model_name,
        "published": "true" if published else "false",
        "featureLayer": "",
        "inputSize": "",
        **choices,
    }
    _native.convert_keras(list(options.items()))


def convert_graph(
    file: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str = "graph",
    tags: Sequence[str] = ("serve",),
    signature: str = "",
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    allow_unsafe_ops: bool = False,
) -> None:
    """Writes what runs of a graph as a bundle, its variables as constants. Needs TensorFlow.

    `file` is a GraphDef, the folder of a SavedModel, or a checkpoint of TensorFlow 1 (its folder, or its
    `.meta` file). The `signature` of a SavedModel or checkpoint names inputs and outputs, else `inputs` and
    `outputs` are tensors (`name:0`). `allow_unsafe_ops`: whether what runs may reach beyond the graph.
    """
    options = {
        "file": os.fspath(file),
        "output": os.fspath(output),
        "name": name,
        "tags": json.dumps(list(tags)),
        "signature": signature,
        "inputs": json.dumps(list(inputs)),
        "outputs": json.dumps(list(outputs)),
        "allowUnsafeOps": str(allow_unsafe_ops).lower(),
    }
    load_tensorflow()
    _native.convert_graph(list(options.items()))


def download(
    url: str, file: str | os.PathLike[str], algorithm: str | None, digest: str | None, advice: str
) -> None:
    """Fetches a file over HTTP: resumed, checked, atomic. `advice` ends the message of an error."""
    options = {
        "url": url,
        "file": os.fspath(file),
        "hash": digest or "",
        "hashAlgorithm": (algorithm or "") if digest else "",
        "maxBytes": str(4 << 30),
        "connectSeconds": "30",
        "stallSeconds": "30",
        "retries": "4",
        "pauseMillis": "1000",
        "httpProxy": "",
        "httpsProxy": "",
        "noProxy": "",
        "advice": advice,
    }
    _native.download(list(options.items()))


def decode_images(batch: pa.RecordBatch, options: list[tuple[str, str]]) -> pa.RecordBatch:
    """Decodes a batch of one picture column into columns `image` (Spark's image struct) and `error`."""
    return pa.record_batch(_native.decode_images(batch, options))


@dataclass(frozen=True)
class Opening:
    """What a worker needs to open a model; small, because it travels with every task."""

    bundle: str
    """File name of the bundle among Spark's files; its digest, where it is carried."""
    carried: bytes | None
    """The bundle itself, where the tasks do not see those files."""
    options: tuple[tuple[str, str], ...]
    """Of the model, without `model` and `threads`, which the worker adds."""
    tensorflow_path: str
    threads: int


def load_tensorflow(path: str = "") -> None:
    """Loads TensorFlow once per process: from this path, the environment's, or this Python's own."""
    path = path or os.environ.get("SPARKDL_TENSORFLOW_PATH", "")
    _native.load_tensorflow(
        [("tensorflowPath", path), ("tensorflowClasspath", ""), ("python", sys.executable)]
    )


def open_model(opening: Opening) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Loads TensorFlow and the bundle, each once per process; what it gives runs a batch."""
    from pyspark import SparkFiles

    load_tensorflow(opening.tensorflow_path)
    if opening.carried is None:
        bundle = SparkFiles.get(opening.bundle)
    else:
        bundle = str(_shipping.unpacked(opening.bundle, opening.carried))
    options = [("model", bundle), *opening.options, ("threads", str(threads(opening.threads)))]
    model = _native.Model(options)
    return lambda batch: pa.record_batch(model.run(batch))


def try_to_open(bundle: Path, opening: Opening) -> None:
    """Opens the model here and closes it, so that what does not work fails before a job."""
    load_tensorflow(opening.tensorflow_path)
    _native.Model([("model", os.fspath(bundle)), *opening.options, ("threads", "1")])


def configured_threads(spark: Any) -> int:
    """Threads of one native call as the session's settings have them; 0: not set."""
    return int(spark.conf.get("spark.sparkdl.threads", None) or 0)


def threads(configured: int) -> int:
    """Threads of one native call in this process; 0 lets the core choose."""
    # Spark starts a worker process per task and tells it by this variable how many cores the task has.
    asked = configured or int(os.environ.get("SPARKDL_THREADS") or 0)
    cores = os.environ.get("OMP_NUM_THREADS", "")
    return asked or (int(cores) if cores.isdigit() else 0)
