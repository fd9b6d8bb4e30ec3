"""Graphs and SavedModels that TensorFlow made, as bundles: what comes out of them is what TensorFlow gives.

Each model is built, saved by TensorFlow, converted by the core and run, in its own variables' values.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image

import graph_models
from comparison import manifest
from graph_models import MODELS, SERVING, Model, floats, saved, variable
from sparkdl import SparkDLError, SparkDLValueError, _engine, _native

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
saved_model_pb2 = pytest.importorskip("tensorflow.core.protobuf.saved_model_pb2")

pytestmark = pytest.mark.once

v1 = tf.compat.v1

Arrays = dict[str, npt.NDArray[Any]]

ARROW = {"float32": pa.float32(), "float64": pa.float64(), "int32": pa.int32(), "int64": pa.int64()}
ARROW |= {"uint8": pa.uint8(), "bool": pa.bool_(), "int8": pa.int8(), "int16": pa.int16()}
ARROW |= {"float16": pa.float32(), "string": pa.string()}


def results(bundle: Path, columns: list[pa.Array], allow_unsafe_ops: str = "false") -> pa.RecordBatch:
    """What comes back for these columns: those of the outputs, by name, and the reasons."""
    _engine.load_tensorflow()
    about = manifest(bundle)
    inputs, outputs = ([spec["name"] for spec in about[side]] for side in ("inputs", "outputs"))
    options = {"model": str(bundle), "task": "tensors", "threads": "2", "allowUnsafeOps": allow_unsafe_ops}
    options |= {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)}
    result = pa.record_batch(_native.Model(list(options.items())).run(pa.record_batch(columns, inputs)))
    return result.rename_columns([*outputs, "error"])


def run(bundle: Path, feeds: Arrays) -> Arrays:
    """The bundle's outputs for these rows."""
    columns = []
    for spec in manifest(bundle)["inputs"]:
        rows, dtype = feeds[spec["name"]], ARROW[spec["dtype"]]
        flat = rows.reshape(len(rows), -1).tolist()
        columns.append(pa.array(flat, pa.list_(dtype)) if rows.ndim > 1 else pa.array(rows.tolist(), dtype))
    result = results(bundle, columns)
    assert result.column("error").null_count == result.num_rows, result.column("error")
    return {name: np.array(result.column(name).to_pylist()) for name in result.schema.names[:-1]}


def assert_equal(ours: Arrays, theirs: Arrays) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        found = ours[name]
        assert found.shape == expected.shape, name
        if expected.dtype == object:
            assert found.tolist() == np.vectorize(bytes.decode, otypes=[object])(expected).tolist()
        elif expected.dtype == np.float16:
            np.testing.assert_array_equal(found, expected.astype(np.float32), err_msg=name)
        elif expected.dtype.kind == "f":
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=1e-6 * np.abs(expected).max(), err_msg=name
            )
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


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


def bundled(tmp_path: Path, function: Any, **inputs: Any) -> Path:
    """The bundle of a function without variables."""
    saved({}, lambda _, *tensors: function(*tensors), **inputs)(tmp_path / "model")
    _engine.convert_graph(tmp_path / "model", tmp_path / "b.sparkdl", signature=SERVING)
    return tmp_path / "b.sparkdl"


@pytest.mark.parametrize(
    ("dtype", "given", "fit", "misfit", "back"),
    [
        ("int8", pa.int64(), [-128, 127], [-129, 128], pa.int8()),
        ("int16", pa.int64(), [-32768, 32767], [-32769, 32768], pa.int16()),
        ("float16", pa.float64(), [-65504.0, 6e-8, float("inf")], [65520.0, -1e300], pa.float32()),
    ],
)
def test_narrow_numbers_that_do_not_fit_make_their_row_invalid(tmp_path, dtype, given, fit, misfit, back):
    model = bundled(tmp_path, lambda x: {"y": tf.identity(x)}, x=([], tf.as_dtype(dtype)))
    numbers = [fit[0], *misfit, None, *fit[1:]]
    result = results(model, [pa.array(numbers, given)])
    assert result.column("y").type == back
    expected = [np.dtype(dtype).type(one).item() if one in fit else None for one in numbers]
    assert result.column("y").to_pylist() == expected
    reason = f"a number that {dtype} does not hold, for the input x"
    reasons = [None, reason, reason, "no value for the input x (null)", *(None for _ in fit[1:])]
    assert result.column("error").to_pylist() == reasons


def test_whole_numbers_are_not_made_of_broken_ones(tmp_path):
    model = bundled(tmp_path, lambda x: {"y": x + 1}, x=([2], tf.int8))
    with pytest.raises(SparkDLError, match="but the input is int8 of shape"):
        results(model, [pa.array([[1.0, 2.0]])])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_texts_come_in_every_column_of_texts_or_bytes(tmp_path, kind):
    model = bundled(tmp_path, lambda x: {"y": x + "!"}, x=([2, 2], tf.string))
    rows = [["a", "Größe"], ["", "x" * 99]], [["b", None], ["c", "d"]], None, [["e", "f"], ["g", "h"]]
    nested = pa.array(rows, pa.list_(pa.list_(kind)))
    flat = [row and [text for texts in row for text in texts] for row in rows]
    shout = [[text + "!" for text in texts] for texts in rows[0]], [["e!", "f!"], ["g!", "h!"]]
    reasons = ["a null inside of the value for the input x", "no value for the input x (null)"]
    columns = nested, pa.array(flat, pa.large_list(kind)), pa.array(flat, pa.list_(kind, 4))
    for column in columns:
        result = results(model, [column])
        assert result.column("y").to_pylist() == [shout[0], None, None, shout[1]]
        assert result.column("error").to_pylist() == [None, *reasons, None]
        # A slice of a larger batch.
        assert results(model, [column.slice(3)]).column("y").to_pylist() == [shout[1]]
    longer = results(model, [pa.array([["a", "b", "c"]], pa.list_(kind))])
    reason = "3 texts, but the input x takes the shape [2, 2]"
    assert longer.column("error").to_pylist() == [reason]


def test_numbers_and_texts_do_not_stand_for_each_other(tmp_path):
    model = bundled(tmp_path, lambda x: {"y": x + "!"}, x=([], tf.string))
    with pytest.raises(SparkDLError, match="is of type Int64, but the input is string of shape"):
        results(model, [pa.array([1])])


def test_rows_with_other_bytes_than_utf_8_have_no_outputs(tmp_path):
    def function(x: Any) -> dict[str, Any]:
        return {"n": tf.strings.length(x), "y": tf.identity(x), "joined": tf.strings.reduce_join(x, 1)}

    model = bundled(tmp_path, function, x=([2], tf.string))
    rows = [b"a", b"b"], [b"\xff", b"c"], None, [b"d", b"\xc3"], [b"e", "ß".encode()], [b"\xc3", b"\x9f"]
    result = results(model, [pa.array(rows, pa.list_(pa.binary()))])
    assert result.column("n").to_pylist() == [[1, 1], None, None, None, [1, 2], None]
    assert result.column("y").to_pylist() == [["a", "b"], None, None, None, ["e", "ß"], None]
    # The two bytes of the last row are a text together.
    assert result.column("joined").to_pylist() == ["ab", None, None, None, "eß", None]
    of_joined, of_y = (f"a string of the output {name} is not UTF-8" for name in ("joined", "y"))
    missing = "no value for the input x (null)"
    assert result.column("error").to_pylist() == [None, of_joined, missing, of_joined, None, of_y]


def test_bytes_feed_unsigned_bytes_of_any_rank_but_none(tmp_path):
    model = bundled(tmp_path, lambda x: {"y": 255 - x}, x=([2, None], tf.uint8))
    rows = pa.array([b"\x00\x01\xfe\xff", None, b"abc", b"", b"ab"], pa.large_binary())
    result = results(model, [rows])
    assert result.column("y").type.value_type.value_type == pa.int16()
    assert result.column("y").to_pylist() == [[[255, 254], [1, 0]], None, None, [[], []], [[158], [157]]]
    assert result.column("error")[2].as_py() == "3 numbers, but the input x takes the shape [2, any]"
    assert results(model, [rows.slice(4)]).column("y").to_pylist() == [[[158], [157]]]


def refusal(tmp_path: Path, save: Any, **choices: Any) -> str:
    save(tmp_path / "model")
    with pytest.raises(SparkDLValueError) as refused:
        _engine.convert_graph(tmp_path / "model", tmp_path / "b.sparkdl", **choices)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    message = str(refused.value)
    assert str(tmp_path / "model") in message
    return message


def texts_variable(given: dict[str, Any], x: Any) -> dict[str, Any]:
    return {"y": tf.strings.join([x, given["greeting"]])}


def counted(given: dict[str, Any], x: Any) -> dict[str, Any]:
    return {"y": x + given["n"].assign_add(1.0)}


def changing(given: dict[str, Any], x: Any) -> dict[str, Any]:
    given["table"].insert(x[:, 0], x[:, 1])
    return {"y": given["table"].lookup(x)}


def from_anywhere(folder: Path) -> None:
    """A table that is filled from a file of the machine: its path is a constant of the graph."""
    model, tensor = saved_model_pb2.SavedModel(), None
    graph_models.from_file(folder)
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0]
    for node in graph.graph_def.node:
        if node.op == "Placeholder" and node.name.startswith("asset_path"):
            node.op, tensor = "Const", tf.make_tensor_proto("/etc/hostname", tf.string)
            node.attr.clear()
            node.attr["dtype"].type = tensor.dtype
            node.attr["value"].tensor.CopyFrom(tensor)
    del graph.asset_file_def[:]
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())


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
    "table that changes": (
        saved(
            {"table": tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)},
            changing,
            x=([2], tf.int64),
        ),
        {"signature": SERVING},
        "is filled while it runs, which is not built",
    ),
    "table of a file elsewhere": (
        from_anywhere,
        {"signature": SERVING},
        "reads a file that is none of its assets",
    ),
    "files": (
        saved({}, lambda _, x: {"y": tf.io.read_file("/etc/hostname") + tf.as_string(x)}, x=ROW),
        {"signature": SERVING},
        "ReadFile",
    ),
    "variable of texts": (
        saved({"greeting": tf.Variable("hello")}, texts_variable, x=([], tf.string)),
        {"signature": SERVING},
        "is of a type that is not built",
    ),
    "complex": (
        saved({}, lambda _, x: {"y": tf.complex(x, x)}, x=ROW),
        {"signature": SERVING},
        "is of type Complex64",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_used_is_refused_by_name(name, tmp_path):
    save, choices, expected = REFUSALS[name]
    assert expected in refusal(tmp_path, save, **choices)


def test_variables_that_runs_change_stay_variables_and_say_so(tmp_path, caplog):
    saved({"n": tf.Variable(5.0)}, counted, x=ROW)(tmp_path / "model")
    with caplog.at_level("WARNING", "sparkdl"):
        _engine.convert_graph(tmp_path / "model", tmp_path / "b.sparkdl", signature=SERVING)
    assert "stay variables, of each process that runs it: AssignAddVariableOp (node " in caplog.text
    feeds = {"x": floats(3)}
    assert_equal(run(tmp_path / "b.sparkdl", feeds), {"y": floats(3) + 6})


def test_a_placeholder_with_a_default_is_fed_or_left(tmp_path):
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 3], "x")
        factor = v1.placeholder_with_default(tf.constant([2.0]), [None], "factor")
        tf.multiply(x, factor[:, None], name="y")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    both = {"x:0": floats(3), "factor:0": floats()}
    for feeds, expected in (({"x:0": floats(3)}, floats(3) * 2), (both, floats(3) * floats()[:, None])):
        bundle = tmp_path / f"{len(feeds)}.sparkdl"
        _engine.convert_graph(tmp_path / "graph.pb", bundle, inputs=list(feeds), outputs=["y:0"])
        assert_equal(run(bundle, feeds), {"y:0": expected})


def ring(tmp_path: Path) -> None:
    """A variable whose restored value comes from a ring of operations."""
    MODELS["one variable"][0](tmp_path)
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((tmp_path / "saved_model.pb").read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Identity" and node.input[0].startswith("RestoreV2"):
                node.input[0] = f"{node.name}:output:0"
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())


def test_a_ring_of_operations_ends(tmp_path):
    message = refusal(tmp_path, ring, signature=SERVING)
    assert "is not restored from the checkpoint" in message


@pytest.fixture
def deep_stack():
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


def test_functions_nested_without_end_are_left_alone(tmp_path, deep_stack):
    """Deeper than the converter follows variables into: they stay variables."""

    def deep(given: dict[str, Any], x: Any) -> dict[str, Any]:
        function = tf.function(lambda y: y * given["w"], autograph=False)
        for _ in range(70):
            function = tf.function(lambda y, inner=function: inner(y), autograph=False)
        return {"y": function(x)}

    saved({"w": variable(3)}, deep, x=ROW)(tmp_path / "model")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures[SERVING]
    _engine.convert_graph(tmp_path / "model", tmp_path / "b.sparkdl", signature=SERVING)
    expected = served(x=tf.constant(floats(3)))["y"].numpy()
    assert_equal(run(tmp_path / "b.sparkdl", {"x": floats(3)}), {"y": expected})


def test_rows_need_an_open_first_dimension(tmp_path):
    model = Model({}, lambda _, x: {"y": x * 2}, [tf.TensorSpec([2, 3], tf.float32, "x")])
    tf.saved_model.save(model, str(tmp_path / "m"), signatures=model.call.get_concrete_function())
    bundle = tmp_path / "b.sparkdl"
    _engine.convert_graph(tmp_path / "m", bundle, signature=SERVING)
    assert [spec["rows"] for spec in manifest(bundle)["inputs"]] == [False]
    with pytest.raises(SparkDLValueError) as refused:
        results(bundle, [pa.array([[1.0] * 6])])
    expected = f"serving_default_x:0 of {bundle} has the shape [2, 3], but the first dimension must be open"
    assert expected in str(refused.value)


def test_operations_beyond_the_graph_run_where_all_allow_it(tmp_path):
    (tmp_path / "greeting").write_text("hello")

    def greeted(_: Any, x: Any) -> dict[str, Any]:
        return {"y": tf.strings.join([tf.io.read_file(str(tmp_path / "greeting")), " ", x])}

    saved({}, greeted, x=([], tf.string))(tmp_path / "model")
    bundle = tmp_path / "b.sparkdl"
    _engine.convert_graph(tmp_path / "model", bundle, signature=SERVING, allow_unsafe_ops=True)
    assert manifest(bundle)["unsafeOps"] is True
    column = pa.array(["you", "all"])
    with pytest.raises(SparkDLValueError, match=r"ReadFile .*set allowUnsafeOps where you trust it"):
        results(bundle, [column])
    assert results(bundle, [column], "true").column("y").to_pylist() == ["hello you", "hello all"]
    # A session that was opened so is not given to those who do not allow it.
    with pytest.raises(SparkDLValueError, match="ReadFile"):
        results(bundle, [column])


def test_a_table_of_a_file_elsewhere_is_filled_where_that_is_allowed(tmp_path):
    from_anywhere(tmp_path / "model")
    bundle = tmp_path / "b.sparkdl"
    _engine.convert_graph(tmp_path / "model", bundle, signature=SERVING, allow_unsafe_ops=True)
    # What was read is a constant, so nothing is read again.
    assert "unsafeOps" not in manifest(bundle)
    name = Path("/etc/hostname").read_text().split()[0]
    assert results(bundle, [pa.array([name])]).column("error").null_count == 1


def test_damaged_files_are_refused(tmp_path):
    DOUBLE(tmp_path / "whole")
    file = tmp_path / "whole" / "saved_model.pb"
    content = file.read_bytes()
    for length in (0, 1, len(content) // 3, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(SparkDLValueError, match="Cannot use the graph"):
            _engine.convert_graph(tmp_path / "whole", tmp_path / "b.sparkdl", signature=SERVING)


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "folder").mkdir()
    reasons = {
        "none.pb": r"Cannot read the graph .*check that the file is there",
        "folder": r"the folder holds neither saved_model\.pb nor checkpoint",
    }
    for file, reason in reasons.items():
        with pytest.raises(SparkDLError, match=reason):
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


def opened(tmp_path: Path, function: Any, dtype: Any) -> Any:
    """A model of single values: one input x, one output y."""
    saved({}, lambda _, x: {"y": function(x)}, x=([], dtype))(tmp_path / "model")
    _engine.convert_graph(tmp_path / "model", tmp_path / "b.sparkdl", signature=SERVING)
    _engine.load_tensorflow()
    options = {"model": str(tmp_path / "b.sparkdl"), "task": "tensors", "threads": "2"}
    options |= {"inputs": '["x"]', "outputs": '["y"]', "allowUnsafeOps": "false"}
    return _native.Model(list(options.items()))


def test_doubles_become_the_nearest_halves(tmp_path):
    middles = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(float)
    middles = (middles[:-1] + middles[1:]) / 2
    numbers = np.concatenate([np.nextafter(middles, 0), middles, np.nextafter(middles, np.inf)])
    numbers = np.concatenate([numbers, -numbers, [np.nextafter(65520, 0)]])
    batch = pa.record_batch([pa.array(numbers)], ["x"])
    result = pa.record_batch(opened(tmp_path, tf.identity, tf.float16).run(batch))
    expected = numbers.astype(np.float16)
    assert np.isfinite(expected).all()
    assert result.column("error").null_count == len(numbers)
    np.testing.assert_array_equal(np.array(result.column(0), np.float32), expected.astype(np.float32))


def test_rows_that_are_invalid_by_what_the_graph_gave_are_counted(tmp_path):
    model = opened(tmp_path, tf.identity, tf.string)
    batch = pa.record_batch([pa.array([b"\xff", b"a", None, b"b"], pa.binary())], ["x"])
    assert pa.record_batch(model.run(batch)).column(0).to_pylist() == [None, "a", None, "b"]
    counted = model.metrics()
    assert (counted["rows"], counted["invalid_rows"]) == (4, 2)
