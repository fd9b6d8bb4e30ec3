"""GraphFunction, IsolatedSession and the ready-made pieces: graphs of TensorFlow 1, put together."""

from __future__ import annotations

import numpy as np
import pytest

from sparkdl import SparkDLValueError
from sparkdl.graph.builder import GraphFunction, IsolatedSession
from sparkdl.graph.pieces import buildFlattener, buildSpImageConverter, imageInputPlaceholder

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once

v1 = tf.compat.v1


def scaled(factor: float) -> GraphFunction:
    with IsolatedSession() as session:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        weight = v1.get_variable("weight", initializer=factor)
        session.run(v1.global_variables_initializer())
        return session.asGraphFunction([x], [tf.multiply(x, weight, name="y")])


def run(function: GraphFunction, *feeds: object) -> list[np.ndarray]:
    with IsolatedSession() as session:
        inputs, outputs = session.importGraphFunction(function, prefix="")
        return list(session.run(outputs, dict(zip(inputs, feeds, strict=True))))


ROWS = np.float32([[1, 2, 3], [4, 5, 6]])


def test_a_function_is_a_graph_without_its_variables():
    function = scaled(2.0)
    assert (function.input_names, function.output_names) == (["x"], ["y"])
    assert not [node for node in function.graph_def.node if "Var" in node.op]
    np.testing.assert_array_equal(run(function, ROWS)[0], ROWS * 2)


def test_functions_run_one_after_the_other():
    chain = GraphFunction.fromList([("one", scaled(2.0)), (None, scaled(5.0)), ("flat", buildFlattener())])
    assert chain.input_names == ["one/x"]
    assert chain.output_names == ["mat_output"]
    np.testing.assert_array_equal(run(chain, ROWS)[0], ROWS * 10)


def test_functions_that_do_not_fit_are_refused():
    with pytest.raises(SparkDLValueError, match="The function image has 4 inputs, but the one before"):
        GraphFunction.fromList([("one", scaled(1.0)), ("image", buildSpImageConverter("RGB", "uint8"))])
    with pytest.raises(SparkDLValueError, match="at least one function"):
        GraphFunction.fromList([])


def test_keras_models_are_functions(tmp_path):
    inputs = keras.Input((3,), name="rows")
    model = keras.Model(inputs, keras.layers.Dense(2, activation="tanh", name="scores")(inputs))
    model.save(tmp_path / "model.keras")
    for given in (model, str(tmp_path / "model.keras")):
        found = run(GraphFunction.fromKeras(given), ROWS)[0]
        np.testing.assert_allclose(found, model(ROWS).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("order", "channels"), [("RGB", 3), ("RGB", 4), ("BGR", 3), ("L", 1)])
def test_image_structs_become_pictures(order, channels, dtype):
    pixels = np.random.default_rng(3).integers(0, 255, (4, 5, channels)).astype(dtype)
    converter = buildSpImageConverter(order, dtype)
    assert converter.input_names == ["height", "width", "num_channels", "image_buffer"]
    found = run(converter, 4, 5, channels, pixels.tobytes())[0]
    expected = pixels[..., [2, 1, 0, *range(3, channels)]] if order == "RGB" else pixels
    np.testing.assert_array_equal(found, expected[None].astype(np.float32))


def test_pieces_refuse_what_they_do_not_know():
    with pytest.raises(SparkDLValueError, match='channelOrder must be one of "RGB", "BGR", "L"'):
        buildSpImageConverter("GBR", "uint8")
    with pytest.raises(SparkDLValueError, match='img_dtype must be "uint8" or "float32"'):
        buildSpImageConverter("RGB", "int8")


def test_the_placeholder_of_pictures():
    with tf.Graph().as_default():
        given = imageInputPlaceholder(3)
    assert (given.name, given.dtype, given.shape.as_list()) == (
        "sparkdl_image_input:0",
        tf.float32,
        [None, None, None, 3],
    )


def test_inputs_are_linked_by_name():
    with IsolatedSession() as session:
        x = v1.placeholder(tf.float32, [None, 3], "start")
        inputs, outputs = session.importGraphFunction(scaled(3.0), input_map={"x:0": x})
        assert inputs == [x]
        assert outputs[0].name == "GFN-IMPORT/y:0"
        np.testing.assert_array_equal(session.run(outputs[0], {x: ROWS}), ROWS * 3)
        with pytest.raises(SparkDLValueError, match="The function has no input z; it has x"):
            session.importGraphFunction(scaled(3.0), input_map={"z": x})


def test_keras_in_a_session_is_refused_with_the_way_to_go():
    with pytest.raises(SparkDLValueError, match=r"GraphFunction\.fromKeras"):
        IsolatedSession(using_keras=True)
