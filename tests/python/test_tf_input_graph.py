"""TFInputGraph: every way in gives the graph that TensorFlow or Keras gives, with names, types and shapes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkdl import SparkDLError, SparkDLValueError, TFInputGraph
from sparkdl.graph import utils
from test_graphs import run

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once

v1 = tf.compat.v1
ROWS = np.random.default_rng(7).normal(size=(5, 3)).astype(np.float32)
KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
EXPECTED = ROWS @ KERNEL + 1
SCHEMA = """inputs
 |-- {0}: float32 [3] (tensor {1})
outputs
 |-- {2}: float32 [2] (tensor {3})
"""


def tf1_graph(constant: bool = False) -> Any:
    """A graph in the style of TensorFlow 1, and its placeholder and result."""
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 3], "x")
        kernel = tf.constant(KERNEL) if constant else v1.get_variable("kernel", initializer=KERNEL)
        y = tf.identity(x @ kernel + 1, "y")
    return graph, x, y


def session(graph: Any) -> Any:
    opened = v1.Session(graph=graph)
    with graph.as_default():
        opened.run(v1.global_variables_initializer())
    return opened


def saved_checkpoint(folder: Path) -> None:
    graph, x, y = tf1_graph()
    with graph.as_default(), session(graph) as opened:
        infos = [{name: v1.saved_model.build_tensor_info(tensor)} for name, tensor in (("a", x), ("b", y))]
        signature = v1.saved_model.build_signature_def(*infos, "predict")
        saver = v1.train.Saver()
        saver.save(opened, str(folder / "model"), global_step=3, write_meta_graph=False)
        meta = v1.train.export_meta_graph(saver_def=saver.as_saver_def())
        meta.signature_def["predict"].CopyFrom(signature)
        (folder / "model-3.meta").write_bytes(meta.SerializeToString())


def saved_model(folder: Path) -> None:
    graph, x, y = tf1_graph()
    with graph.as_default(), session(graph) as opened:
        builder = v1.saved_model.Builder(str(folder))
        infos = [{name: v1.saved_model.build_tensor_info(tensor)} for name, tensor in (("a", x), ("b", y))]
        signature = v1.saved_model.build_signature_def(*infos, "predict")
        builder.add_meta_graph_and_variables(opened, ["serve", "cpu"], {"predict": signature})
        builder.save()


def from_graph(folder: Path) -> TFInputGraph:
    graph, x, _ = tf1_graph()
    with session(graph) as opened:
        return TFInputGraph.fromGraph(graph, opened, [x], ["y"])


def from_graph_without_session(folder: Path) -> TFInputGraph:
    graph, _, y = tf1_graph(constant=True)
    return TFInputGraph.fromGraph(graph, None, ["x:0"], [y])


def from_message(folder: Path) -> TFInputGraph:
    return TFInputGraph.fromGraphDef(tf1_graph(constant=True)[0].as_graph_def(), ["x"], ["y"])


def from_file(folder: Path) -> TFInputGraph:
    file = folder / "graph.pb"
    file.write_bytes(tf1_graph(constant=True)[0].as_graph_def().SerializeToString())
    return TFInputGraph.fromGraphDef(f"file:{file}", ["x:0"], ["y:0"])


def from_checkpoint(folder: Path) -> TFInputGraph:
    saved_checkpoint(folder)
    return TFInputGraph.fromCheckpoint(str(folder), ["x:0"], ["y:0"])


def from_meta_file(folder: Path) -> TFInputGraph:
    saved_checkpoint(folder)
    return TFInputGraph.fromCheckpoint(str(folder / "model-3.meta"), ["x:0"], ["y:0"])


def from_saved_model(folder: Path) -> TFInputGraph:
    saved_model(folder / "saved")
    return TFInputGraph.fromSavedModel(str(folder / "saved"), "cpu,serve", ["x"], ["y"])


BY_TENSOR = [
    from_graph,
    from_graph_without_session,
    from_message,
    from_file,
    from_checkpoint,
    from_meta_file,
    from_saved_model,
]


@pytest.mark.parametrize("way", BY_TENSOR)
def test_graphs_by_their_tensors(way, tmp_path):
    graph = way(tmp_path)
    assert graph.schemaString() == SCHEMA.format("x:0", "x:0", "y:0", "y:0")
    np.testing.assert_allclose(run(Path(graph.path), {"x:0": ROWS})["y:0"], EXPECTED, rtol=1e-6)


def from_saved_signature(folder: Path) -> TFInputGraph:
    saved_model(folder / "saved")
    return TFInputGraph.fromSavedModelWithSignature(str(folder / "saved"), ["serve", "cpu"], "predict")


def from_checkpoint_signature(folder: Path) -> TFInputGraph:
    saved_checkpoint(folder)
    return TFInputGraph.fromCheckpointWithSignature(str(folder), "predict")


@pytest.mark.parametrize("way", [from_saved_signature, from_checkpoint_signature])
def test_graphs_by_a_signature(way, tmp_path, capsys):
    graph = way(tmp_path)
    graph.printSchema()
    assert capsys.readouterr().out == SCHEMA.format("a", "x:0", "b", "y:0")
    np.testing.assert_allclose(run(Path(graph.path), {"a": ROWS})["b"], EXPECTED, rtol=1e-6)
    assert graph.translateInputMapping({"column": "a"}) == {"column": "x:0"}
    assert graph.translateOutputMapping({"b": "column"}) == {"y:0": "column"}
    with pytest.raises(SparkDLValueError, match="has no input q; the nearest: a"):
        graph.translateInputMapping({"column": "q"})


def test_functions_with_variables_by_their_arguments():
    kernel = tf.Variable(KERNEL)

    @tf.function
    def multiplied(rows, shift):
        return {"total": rows @ kernel + shift}

    specs = [tf.TensorSpec([None, 3], name="rows"), tf.TensorSpec([None, 2], name="shift")]
    graph = TFInputGraph.fromFunction(multiplied, *specs)
    assert [(tensor.name, tensor.shape) for tensor in graph.inputs] == [("rows", (3,)), ("shift", (2,))]
    found = run(Path(graph.path), {"rows": ROWS, "shift": np.ones((5, 2), np.float32)})
    np.testing.assert_allclose(found["total"], EXPECTED, rtol=1e-6)
    concrete = TFInputGraph.fromFunction(multiplied.get_concrete_function(*specs))
    assert concrete.outputs[0].name == "total"
    with pytest.raises(SparkDLValueError, match=r"was given a function: decorate it with @tf\.function"):
        TFInputGraph.fromFunction(lambda x: x)


def test_keras_models_by_their_inputs(tmp_path):
    inputs = keras.Input((3,), name="rows")
    model = keras.Model(inputs, keras.layers.Dense(2, name="scores")(inputs))
    model.save(tmp_path / "model.keras")
    for given in (model, str(tmp_path / "model.keras")):
        graph = TFInputGraph.fromKeras(given)
        assert [tensor.name for tensor in (*graph.inputs, *graph.outputs)] == ["rows", "scores"]
        found = run(Path(graph.path), {"rows": ROWS})["scores"]
        np.testing.assert_allclose(found, model(ROWS).numpy(), rtol=1e-5, atol=1e-6)


def test_the_same_graph_lies_in_the_cache_once():
    first, second = from_message(Path()), from_message(Path())
    assert first == second
    assert Path(first.path).exists()


REFUSALS: dict[str, tuple[Any, str]] = {
    "no folder": (lambda f: TFInputGraph.fromSavedModelWithSignature(str(f / "none")), "check that the file"),
    "empty folder": (
        lambda f: TFInputGraph.fromSavedModelWithSignature(str(f)),
        "the folder holds neither saved_model.pb nor checkpoint",
    ),
    "no names": (lambda f: TFInputGraph.fromGraphDef(b"", [], ["y"]), "feed_names must be names of tensors"),
    "no such tensor": (
        lambda f: TFInputGraph.fromGraphDef(tf1_graph(True)[0].as_graph_def(), ["z"], ["y"]),
        "no tensor z:0; the names nearest to it are ",
    ),
    "no graph": (
        lambda f: TFInputGraph.fromGraphDef(b"\x01\x02", ["x"], ["y"]),
        "the graph that was given: its graph is not a",
    ),
    "no session": (
        lambda f: TFInputGraph.fromGraph(tf1_graph()[0], None, ["x"], ["y"]),
        "The graph has the variable kernel: give the session it lives in",
    ),
    "no signature": (
        lambda f: TFInputGraph.fromSavedModelWithSignature(str(f), "serve", ""),
        "signature_def_key must name a signature",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_read_is_said(case, tmp_path):
    read, expected = REFUSALS[case]
    with pytest.raises(SparkDLError, match=re.escape(expected)):
        read(tmp_path)


def test_checkpoints_of_tensorflow_2_have_no_graph(tmp_path):
    tf.train.Checkpoint(kernel=tf.Variable(KERNEL)).save(str(tmp_path / "ckpt"))
    with pytest.raises(SparkDLValueError, match=r"no graph .*as those of TensorFlow 2: give a SavedModel"):
        TFInputGraph.fromCheckpoint(str(tmp_path), ["x"], ["y"])


def test_a_checkpoint_whose_folder_moved(tmp_path):
    (tmp_path / "one").mkdir()
    saved_checkpoint(tmp_path / "one")
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert TFInputGraph.fromCheckpoint(str(tmp_path / "two"), ["x"], ["y"]).outputs[0].shape == (2,)


def test_helpers_for_names():
    graph, x, y = tf1_graph()
    assert [utils.tensor_name(x), utils.tensor_name("y", graph)] == ["x:0", "y:0"]
    assert utils.op_name("x:0") == utils.op_name(x) == utils.validated_input("x", graph) == "x"
    assert utils.get_tensor("y", graph) is y
    assert utils.get_op(y, graph) is y.op
    assert utils.get_shape("x:0", graph) == [None, 3]
    assert utils.validated_output(y, graph) == "y"
    with pytest.raises(SparkDLValueError, match=r"no operation yy; the nearest: y"):
        utils.get_op("yy", graph)
    with pytest.raises(SparkDLValueError, match=r"no tensor y:3: the operation y has 1 outputs"):
        utils.get_tensor("y:3", graph)
    with pytest.raises(SparkDLValueError, match="The input y is not a Placeholder but a Identity"):
        utils.validated_input("y", graph)
    with pytest.raises(SparkDLValueError, match=r"A tf\.Graph is needed, but this is a str"):
        utils.validated_graph("graph")
    with session(graph) as opened:
        frozen = utils.strip_and_freeze_until([y], graph, opened, return_graph=True)
    assert not [operation for operation in frozen.get_operations() if "Variable" in operation.type]
