"""Graphs and SavedModels that TensorFlow made, as bundles: what comes out of them is what TensorFlow gives.

Each model is built, saved by TensorFlow, converted by the core and run, in its own variables' values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image

from comparison import manifest
from sparkdl import SparkDLError, SparkDLValueError, _engine, _native

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once

v1 = tf.compat.v1
SERVING = "serving_default"
ROWS = 5
Arrays = dict[str, npt.NDArray[Any]]

ARROW = {"float32": pa.float32(), "float64": pa.float64(), "int32": pa.int32(), "int64": pa.int64()}
ARROW |= {"uint8": pa.uint8(), "bool": pa.bool_()}


def run(bundle: Path, feeds: Arrays) -> Arrays:
    """The bundle's outputs for these rows."""
    _engine.load_tensorflow()
    about = manifest(bundle)
    inputs, outputs = ([spec["name"] for spec in about[side]] for side in ("inputs", "outputs"))
    options = {"model": str(bundle), "task": "tensors", "threads": "2"}
    options |= {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)}
    columns = []
    for spec in about["inputs"]:
        rows, dtype = feeds[spec["name"]], ARROW[spec["dtype"]]
        flat = list(rows.reshape(len(rows), -1))
        columns.append(pa.array(flat, pa.list_(dtype)) if rows.ndim > 1 else pa.array(rows, dtype))
    result = pa.record_batch(_native.Model(list(options.items())).run(pa.record_batch(columns, inputs)))
    assert result.column("error").null_count == result.num_rows, result.column("error")
    return {name: np.array(result.column(index).to_pylist()) for index, name in enumerate(outputs)}


def assert_equal(ours: Arrays, theirs: Arrays) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        found = ours[name]
        assert found.shape == expected.shape, name
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=1e-6 * np.abs(expected).max(), err_msg=name
            )
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


def floats(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(ROWS, *shape)).astype(np.float32)


def whole(*shape: int, below: int = 10, dtype: Any = np.int64) -> npt.NDArray[Any]:
    return np.random.default_rng(7).integers(0, below, (ROWS, *shape)).astype(dtype)


def variable(*shape: int) -> Any:
    return tf.Variable(np.random.default_rng(3).normal(size=shape).astype(np.float32))


class Model(tf.Module):  # type: ignore[misc, name-defined]
    """A function over variables, as a SavedModel."""

    def __init__(self, variables: dict[str, Any], function: Any, signature: list[Any]) -> None:
        super().__init__()
        self.variables_by_name = variables
        self.call = tf.function(lambda *tensors: function(variables, *tensors), input_signature=signature)


def saved(variables: dict[str, Any], function: Any, **inputs: Any) -> Callable[[Path], None]:
    signature = [tf.TensorSpec([None, *shape], dtype, name) for name, (shape, dtype) in inputs.items()]

    def save(folder: Path) -> None:
        model = Model(variables, function, signature)
        tf.saved_model.save(model, str(folder), signatures=model.call.get_concrete_function())

    return save


def exported(*layers: Any) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        keras.utils.set_random_seed(5)
        keras.Sequential(list(layers)).export(str(folder), verbose=False)

    return save


def loop(given: dict[str, Any], x: Any) -> dict[str, Any]:
    def body(index: Any, state: Any) -> Any:
        return index + 1, tf.tanh(state @ given["w"])

    _, state = tf.while_loop(lambda index, _: index < 3, body, (0, x))
    above = tf.reduce_sum(state) > 1e9
    return {"y": tf.cond(above, lambda: state + given["w"][0], lambda: state - given["w"][1])}


def chosen(given: dict[str, Any], x: Any) -> dict[str, Any]:
    branches = [lambda: x + given["a"], lambda: x * given["a"], lambda: x - given["b"]]
    return {"y": tf.switch_case(tf.shape(x)[0] % 3, branches)}


def nested(given: dict[str, Any], x: Any) -> dict[str, Any]:
    @tf.function  # type: ignore[untyped-decorator]
    def inner(y: Any) -> Any:
        return y * given["scale"]

    @tf.function  # type: ignore[untyped-decorator]
    def outer(y: Any) -> Any:
        return inner(y) + inner(y + given["shift"])

    return {"y": outer(x), "z": inner(x)}


def tf1(use_resource: bool, partitions: int = 1) -> Callable[[Path], None]:
    """A SavedModel of TensorFlow 1."""

    def save(folder: Path) -> None:
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 6], "x")
            split = v1.fixed_size_partitioner(partitions) if partitions > 1 else None
            with v1.variable_scope("dense", partitioner=split, use_resource=use_resource):
                kernel = v1.get_variable("kernel", [6, 4], initializer=v1.glorot_uniform_initializer(seed=2))
            bias = v1.get_variable("bias", [4], initializer=v1.ones_initializer(), use_resource=use_resource)
            y = tf.nn.relu(x @ tf.convert_to_tensor(kernel) + bias, "y")
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})

    return save


INPUT = keras.Input
L = keras.layers
W = {"w": variable(4, 4)}
MODELS: dict[str, tuple[Callable[[Path], None], Arrays]] = {
    "one variable": (saved(W, lambda v, x: {"y": x @ v["w"]}, x=([4], tf.float32)), {"x": floats(4)}),
    "no variable": (
        saved({}, lambda _, x: {"y": x * 2 + 1}, x=([3], tf.float64)),
        {"x": floats(3).astype(float)},
    ),
    "scalars": (saved({}, lambda _, x: {"y": x + 1}, x=([], tf.int64)), {"x": whole()}),
    "rank 4": (
        saved({}, lambda _, x: {"y": tf.nn.relu(x)}, x=([2, 3, 2, 2], tf.float32)),
        {"x": floats(2, 3, 2, 2)},
    ),
    "booleans": (
        saved({}, lambda _, x: {"y": x > 4, "n": tf.cast(x, tf.uint8)}, x=([3], tf.int32)),
        {"x": whole(3, dtype=np.int32)},
    ),
    "two inputs": (
        saved(
            W,
            lambda v, a, b: {"sum": a + b @ v["w"], "ids": tf.argmax(a, 1)},
            a=([4], tf.float32),
            b=([4], tf.float32),
        ),
        {"a": floats(4), "b": floats(4)[::-1].copy()},
    ),
    "gather": (
        saved(
            {"table": variable(10, 3)}, lambda v, ids: {"y": tf.gather(v["table"], ids)}, ids=([6], tf.int64)
        ),
        {"ids": whole(6)},
    ),
    "integer variable": (
        saved({"n": tf.Variable(3, dtype=tf.int64)}, lambda v, x: {"y": x * v["n"]}, x=([2], tf.int64)),
        {"x": whole(2)},
    ),
    "while and if": (saved(W, loop, x=([4], tf.float32)), {"x": floats(4)}),
    "case": (saved({"a": variable(4), "b": variable(4)}, chosen, x=([4], tf.float32)), {"x": floats(4)}),
    "nested functions": (
        saved({"scale": variable(4), "shift": variable()}, nested, x=([4], tf.float32)),
        {"x": floats(4)},
    ),
    "dense": (
        exported(INPUT((5,), name="x"), L.Dense(7, "relu"), L.BatchNormalization(), L.Dense(3)),
        {"x": floats(5)},
    ),
    "convolution": (
        exported(INPUT((8, 8, 3), name="x"), L.Conv2D(4, 3, 2, "same"), L.Flatten(), L.Dense(2)),
        {"x": floats(8, 8, 3)},
    ),
    "recurrent": (
        exported(
            INPUT((6,), dtype="int32", name="x"),
            L.Embedding(10, 8, mask_zero=True),
            L.Bidirectional(L.LSTM(5)),
            L.Dense(2),
        ),
        {"x": whole(6, dtype=np.int32)},
    ),
    "attention": (
        exported(
            INPUT((6, 8), name="x"),
            L.LayerNormalization(),
            L.GRU(4, return_sequences=True),
            L.UnitNormalization(),
        ),
        {"x": floats(6, 8)},
    ),
    "TensorFlow 1, references": (tf1(use_resource=False), {"x": floats(6)}),
    "TensorFlow 1, resources": (tf1(use_resource=True), {"x": floats(6)}),
    "TensorFlow 1, in parts": (tf1(use_resource=False, partitions=3), {"x": floats(6)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_gives_what_tensorflow_gives(name, tmp_path):
    save, feeds = MODELS[name]
    save(tmp_path / "model")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures[SERVING]
    theirs = {
        key: value.numpy() for key, value in served(**{k: tf.constant(v) for k, v in feeds.items()}).items()
    }
    _engine.convert_graph(tmp_path / "model", tmp_path / "model.sparkdl", signature=SERVING)
    assert_equal(run(tmp_path / "model.sparkdl", feeds), theirs)


def test_a_graph_def_with_functions_runs_by_its_tensors(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def function(x):
        return tf.map_fn(lambda row: row * 2, x)

    graph = function.get_concrete_function().graph
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    fetch = graph.outputs[0].name
    _engine.convert_graph(tmp_path / "graph.pb", tmp_path / "b.sparkdl", inputs=["x:0"], outputs=[fetch])
    assert_equal(run(tmp_path / "b.sparkdl", {"x:0": floats(3)}), {fetch: floats(3) * 2})


def refusal(tmp_path: Path, save: Any, **choices: Any) -> str:
    save(tmp_path / "model")
    with pytest.raises(SparkDLValueError) as refused:
        _engine.convert_graph(tmp_path / "model", tmp_path / "b.sparkdl", **choices)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    message = str(refused.value)
    assert str(tmp_path / "model") in message
    return message


def counted(given: dict[str, Any], x: Any) -> dict[str, Any]:
    return {"y": x + given["n"].assign_add(1.0)}


def looked_up(given: dict[str, Any], x: Any) -> dict[str, Any]:
    return {"y": given["table"].lookup(x)}


def table() -> Any:
    values = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2], tf.int64), tf.constant([5, 6], tf.int64))
    return tf.lookup.StaticHashTable(values, -1)


DOUBLE = saved({}, lambda _, x: {"y": x * 2}, x=([3], tf.float32))
ROW = ([3], tf.float32)
REFUSALS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "signature": (
        DOUBLE,
        {"signature": "serving"},
        "no signature serving, but __saved_model_init_op, serving_default",
    ),
    "tags": (
        DOUBLE,
        {"signature": SERVING, "tags": ["train"]},
        'no graph with the tags ["train"], but ["serve"]',
    ),
    "tensor": (
        DOUBLE,
        {"inputs": ["serving_default_z:0"], "outputs": ["y:0"]},
        "nearest to it are serving_default_x",
    ),
    "assigned": (
        saved({"n": variable()}, counted, x=ROW),
        {"signature": SERVING},
        "AssignAddVariableOp (node ",
    ),
    "table": (saved({"table": table()}, looked_up, x=([3], tf.int64)), {"signature": SERVING}, "its table "),
    "files": (
        saved({}, lambda _, x: {"y": tf.io.read_file("/etc/hostname") + tf.as_string(x)}, x=ROW),
        {"signature": SERVING},
        "ReadFile",
    ),
    "text": (
        saved({}, lambda _, x: {"y": tf.as_string(x)}, x=ROW),
        {"signature": SERVING},
        "is of type String",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_used_is_refused_by_name(name, tmp_path):
    save, choices, expected = REFUSALS[name]
    assert expected in refusal(tmp_path, save, **choices)


def test_rows_need_an_open_first_dimension(tmp_path):
    def save(folder):
        model = Model({}, lambda _, x: {"y": x * 2}, [tf.TensorSpec([2, 3], tf.float32, "x")])
        tf.saved_model.save(model, str(folder), signatures=model.call.get_concrete_function())

    message = refusal(tmp_path, save, signature=SERVING)
    assert "serving_default_x:0 has the shape [2, 3], but the first dimension must be open" in message


def test_damaged_files_are_refused(tmp_path):
    DOUBLE(tmp_path / "whole")
    file = tmp_path / "whole" / "saved_model.pb"
    content = file.read_bytes()
    for length in (0, 1, len(content) // 3, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(SparkDLValueError, match="Cannot use the graph"):
            _engine.convert_graph(tmp_path / "whole", tmp_path / "b.sparkdl", signature=SERVING)


def test_what_is_not_there_is_said(tmp_path):
    for file in ("none.pb", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(SparkDLError, match=r"Cannot read the graph .*check that the file is there"):
            _engine.convert_graph(tmp_path / file, tmp_path / "b.sparkdl", inputs=["x:0"], outputs=["y:0"])


def test_variables_that_are_missing_are_named(tmp_path):
    MODELS["one variable"][0](tmp_path / "model")
    for file in (tmp_path / "model/variables").iterdir():
        file.unlink()
    with pytest.raises(SparkDLValueError, match="its variables cannot be read"):
        _engine.convert_graph(tmp_path / "model", tmp_path / "b.sparkdl", signature=SERVING)


def test_a_published_saved_model_names_what_its_keras_file_names(shared_data, tmp_path):
    models, photographs = shared_data / "models", sorted((shared_data / "flowers").glob("*/*.jpg"))[::80]
    assert len(photographs) > 4
    pixels = [
        np.asarray(Image.open(file).convert("RGB").resize((224, 224)), np.float32) for file in photographs
    ]
    rows = np.stack(pixels) / 127.5 - 1
    _engine.convert_graph(models / "mobilenet_0.25_224_savedmodel", tmp_path / "g.sparkdl", signature=SERVING)
    _engine.convert_keras(models / "mobilenet_0.25_224.keras", tmp_path / "k.sparkdl", "")
    found, expected = (
        next(iter(run(tmp_path / name, {manifest(tmp_path / name)["inputs"][0]["name"]: rows}).values()))
        for name in ("g.sparkdl", "k.sparkdl")
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())
    np.testing.assert_array_equal(np.argsort(-found, 1)[:, :5], np.argsort(-expected, 1)[:, :5])
