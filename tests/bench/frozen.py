"""Graphs that the core builds from Keras files beside those that TensorFlow's own converter freezes.

Both lie in bundles of the same layout and run through the core with the same settings, so only the graph
differs. The two take turns; printed are the medians of rows per second, and of ours by theirs in each turn.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from sparkdl import _engine, _native

ROUNDS = 15
SECONDS = 0.5
THREADS = 2

Rng = np.random.Generator


def network(name: str) -> Any:
    # Those that take pictures of any size get the size of the others.
    size = {"input_shape": (224, 224, 3)} if name.startswith(("MobileNetV3", "ConvNeXt")) else {}
    return getattr(keras.applications, name)(weights=None, **size)


def lstm() -> Any:
    """A classifier of sequences: 80 steps of 64 numbers through two layers."""
    L = keras.layers
    layers = [L.LSTM(128, return_sequences=True), L.LSTM(128), L.Dense(10, "softmax")]
    return keras.Sequential([keras.Input((80, 64)), *layers])


def transformer() -> Any:
    """Two blocks of attention over 64 steps of 256 numbers."""
    L = keras.layers
    start = keras.Input((64, 256))
    x = start
    for _ in range(2):
        normal = L.LayerNormalization(epsilon=1e-6)(x)
        x = L.Add()([x, L.MultiHeadAttention(8, 32)(normal, normal)])
        normal = L.LayerNormalization(epsilon=1e-6)(x)
        x = L.Add()([x, L.Dense(256)(L.Dense(1024, "gelu")(normal))])
    return keras.Model(start, L.Dense(10)(L.GlobalAveragePooling1D()(x)))


# How each is made, and rows to a call: as many as a light or a heavy network gets from the stages.
MODELS: dict[str, tuple[Any, int]] = {
    "MobileNetV2": (lambda: network("MobileNetV2"), 32),
    "MobileNetV3Large": (lambda: network("MobileNetV3Large"), 32),
    "EfficientNetB0": (lambda: network("EfficientNetB0"), 32),
    "ResNet50": (lambda: network("ResNet50"), 16),
    "InceptionV3": (lambda: network("InceptionV3"), 16),
    "DenseNet121": (lambda: network("DenseNet121"), 16),
    "ConvNeXtTiny": (lambda: network("ConvNeXtTiny"), 8),
    "LSTM": (lstm, 64),
    "transformer": (transformer, 32),
}


def randomize(model: Any) -> None:
    """What is 0 or 1 in a new model would be left out by TensorFlow's optimizer."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(rng.normal(0.0, 0.05, variable.shape))
        elif variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.8, 1.2, variable.shape))


def freeze(model: Any, bundle: Path) -> None:
    """What TensorFlow's converter makes of a model, in a bundle."""
    call = tf.function(lambda x: model(x, training=False))
    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)
    frozen = convert_variables_to_constants_v2(call.get_concrete_function(spec))
    graph = frozen.graph.as_graph_def().SerializeToString()

    def described(name: str, tensor: Any) -> dict[str, Any]:
        return {"name": name, "tensor": tensor.name, "dtype": "float32", "shape": list(tensor.shape[1:])}

    manifest = {
        "format": "sparkdl-bundle",
        "version": 2,
        "name": "frozen",
        "inputs": [described("input", frozen.inputs[0])],
        "outputs": [described("output", frozen.outputs[0])],
        "graph": {"file": "graph.pb", "sha256": hashlib.sha256(graph).hexdigest()},
        "source": {},
        "license": "",
    }
    with zipfile.ZipFile(bundle, "w") as members:
        members.writestr("graph.pb", graph)
        members.writestr("manifest.json", json.dumps(manifest))


def opened(bundle: Path) -> Any:
    with zipfile.ZipFile(bundle) as members:
        manifest = json.loads(members.read("manifest.json"))
    options = {
        "model": str(bundle),
        "task": "tensors",
        "allowUnsafeOps": "false",
        "threads": str(THREADS),
        "inputs": json.dumps([spec["name"] for spec in manifest["inputs"]]),
        "outputs": json.dumps([spec["name"] for spec in manifest["outputs"]]),
    }
    return _native.Model(list(options.items()))


def outputs(model: Any, batch: pa.RecordBatch) -> Any:
    result = pa.record_batch(model.run(batch))
    assert result.column("error").null_count == batch.num_rows, result.column("error")
    return np.asarray(result.column("output_0").to_pylist())


def rate(model: Any, batch: pa.RecordBatch) -> float:
    """Rows per second."""
    began, rows = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        model.run(batch)
        rows += batch.num_rows
    return rows / (time.perf_counter() - began)


def compare(name: str, folder: Path) -> tuple[float, float, float]:
    """Rows per second of ours and of theirs, and their ratio."""
    make, rows = MODELS[name]
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = make()
    randomize(model)
    model.save(folder / "model.keras")
    _engine.convert_keras(folder / "model.keras", folder / "ours.sparkdl", "")
    freeze(model, folder / "theirs.sparkdl")
    size = int(np.prod(model.inputs[0].shape[1:]))
    values = np.random.default_rng(1).normal(0, 1, rows * size).astype("float32")
    batch = pa.record_batch([pa.FixedSizeListArray.from_arrays(pa.array(values), size)], ["input"])
    both = [opened(folder / f"{whose}.sparkdl") for whose in ("ours", "theirs")]
    ours, theirs = (outputs(one, batch) for one in both)
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), "they compute something else"
    rounds = [[rate(one, batch) for one in both] for _ in range(ROUNDS)]
    first, second = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    return first, second, statistics.median(ours / theirs for ours, theirs in rounds)


def main() -> None:
    names = sys.argv[1:] or list(MODELS)
    _native.load_tensorflow([("tensorflowPath", ""), ("tensorflowClasspath", ""), ("python", sys.executable)])
    print(f"{'':18} {'ours/s':>8} {'frozen/s':>8}  ours / frozen")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            ours, theirs, ratio = compare(name, Path(folder))
            print(f"  {name:16} {ours:8.1f} {theirs:8.1f}  {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
