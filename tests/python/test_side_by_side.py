"""Runs of one network on several threads give what one thread gives.

The networks add what a convolution gives to what others still read: TensorFlow's fused operation for
that shares memory between runs (`rust/core/src/summands.rs`). In processes of their own: such runs may
crash.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkdl import _engine

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.once

SIDE, CHANNELS, ROWS, TIMES = 24, 4, 512, 20

RUN = """
import json, sys
import numpy as np, pyarrow as pa
from sparkdl import _native

_native.load_tensorflow([("tensorflowPath", ""), ("tensorflowClasspath", ""), ("python", sys.executable)])
options, folder, times = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rows = np.load(folder + "/rows.npy")
column = pa.array(list(rows.reshape(len(rows), -1)), pa.list_(pa.float32()))
if options.pop("isNested"):
    column = pa.array(rows.tolist(), pa.list_(pa.list_(pa.list_(pa.float32()))))
model = _native.Model(list(options.items()))
for number in range(times):
    result = pa.record_batch(model.run(pa.record_batch([column], ["x"])))
    assert result.column("error").null_count == len(rows), result.column("error")
    np.save(f"{folder}/output_{number}.npy", np.array(result.column(0).to_pylist(), np.float32))
"""


def residual(side: int | None) -> Any:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((side, side, CHANNELS), name="x")
    tensor = keras.layers.Conv2D(CHANNELS, 1, activation="relu", bias_initializer="normal")(inputs)
    for _ in range(8):
        branch = keras.layers.Conv2D(CHANNELS, 3, padding="same", bias_initializer="normal")(tensor)
        both = keras.layers.Add()([branch, tensor])
        tensor = keras.layers.Multiply()([keras.layers.Activation("tanh")(both), tensor])
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="y")(tensor))


def closed(folder: Path) -> Callable[[Any], Any]:
    model = residual(SIDE)
    model.save(folder / "model.keras")
    _engine.convert_keras(folder / "model.keras", folder / "model.sparkdl", "")
    return model


def open_sides(folder: Path) -> Callable[[Any], Any]:
    model = residual(None)
    model.save(folder / "model.keras")
    _engine.convert_keras(folder / "model.keras", folder / "model.sparkdl", "")
    return model


def in_a_function(folder: Path) -> Callable[[Any], Any]:
    """The sums are in a function that TensorFlow leaves one."""
    random = np.random.default_rng(3)
    kernels = [random.normal(0, 0.2, (3, 3, CHANNELS, CHANNELS)).astype(np.float32) for _ in range(8)]
    module = tf.Module()

    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def inner(tensor: Any) -> Any:
        for kernel in kernels:
            both = tf.nn.bias_add(tf.nn.conv2d(tensor, kernel, 1, "SAME"), np.ones(CHANNELS, np.float32))
            tensor = tf.tanh(both + tensor) * tensor
        return tensor

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, SIDE, SIDE, CHANNELS], name="x")])
    def called(x: Any) -> Any:
        return {"y": tf.reduce_mean(inner(tf.nn.relu(x)), [1, 2])}

    module.called = called
    tf.saved_model.save(module, str(folder / "saved"), signatures=called.get_concrete_function())
    _engine.convert_graph(folder / "saved", folder / "model.sparkdl", signature="serving_default")
    return lambda rows: called(tf.constant(rows))["y"]


@pytest.mark.parametrize("made", [closed, open_sides, in_a_function])
def test_runs_side_by_side_give_what_one_gives(made, tmp_path):
    network = made(tmp_path)
    rows = np.random.default_rng(5).normal(size=(ROWS, SIDE, SIDE, CHANNELS)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    about = json.loads(_engine.describe_bundle(tmp_path / "model.sparkdl")[0])
    options = {
        "model": str(tmp_path / "model.sparkdl"),
        "task": "tensors",
        "allowUnsafeOps": "false",
        "inputs": json.dumps([about["inputs"][0]["name"]]),
        "outputs": json.dumps([about["outputs"][0]["name"]]),
        "threads": "2",
        "isNested": made is open_sides,
    }
    command = [sys.executable, "-c", RUN, json.dumps(options), str(tmp_path), str(TIMES)]
    subprocess.run(command, check=True, capture_output=True)
    expected = np.asarray(network(rows))
    for number in range(TIMES):
        found = np.load(tmp_path / f"output_{number}.npy")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
