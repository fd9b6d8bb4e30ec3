"""A Keras network as a frozen graph: constants for variables, batch norm and padding inside the convolutions.

The graph's bytes depend on the network and its weights alone.
"""

from __future__ import annotations

from typing import Any

from sparkdl._graph import Graph
from sparkdl._keras import Network, keras

INPUT = "image"
OUTPUTS = {
    "predictions": "predictions",
    "features": "features",
    "featuresAvg": "features_avg",
    "featuresMax": "features_max",
}


def freeze(network: Network) -> tuple[bytes, dict[str, list[int]]]:
    """The graph, and for each output of the manifest its shape without the batch dimension."""
    function, keys = _function(network)
    traced, captured = captured_values(function)
    names = {OUTPUTS[key]: tensor.name for key, tensor in zip(keys, traced.outputs, strict=True)}
    shapes = {key: tensor.shape[1:].as_list() for key, tensor in zip(keys, traced.outputs, strict=True)}
    return simplified(traced, names, captured).serialized(), shapes


def simplified(traced: Any, names: dict[str, str], captured: dict[str, Any]) -> Graph:
    """What the outputs need of a function's graph, with fewer and cheaper operations."""
    graph = Graph(traced.as_graph_def(), names, captured)
    graph.bypass_identities()
    graph.evaluate_constants()
    graph.fix_reshapes()
    graph.merge_batch_norm()

    def shape_of(tensor: str) -> list[int | None]:
        name = tensor if ":" in tensor else f"{tensor}:0"
        shape = traced.get_tensor_by_name(name).shape
        return [None] * 4 if shape.rank is None else list(shape.as_list())

    graph.merge_padding(shape_of)
    return graph


def captured_values(function: Any) -> tuple[Any, dict[str, Any]]:
    """The function's graph, and the value of each node that stands for a variable or a tensor outside."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if any(node.op.endswith("PartitionedCall") for node in function.graph.as_graph_def().node):
        # A layer with a function of its own: TensorFlow can flatten that, with several copies of all weights.
        return convert_variables_to_constants_v2(function).graph, {}
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    captured = {}
    for outside, inside in function.graph.captures:
        captured[inside.op.name] = variables.get(id(outside), outside).numpy()
    return function.graph, captured


def _function(network: Network) -> tuple[Any, list[str]]:
    """The network's forward pass without training, and the manifest's names of what it returns, in order."""
    import tensorflow as tf

    tensors = {"features": network.features, "predictions": network.predictions}
    wanted = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    model = keras().Model(network.model.inputs, list(wanted.values()))
    keys: list[str] = []

    def forward(image: Any) -> list[Any]:
        results = dict(zip(wanted, tf.nest.flatten(model(image, training=False)), strict=True))
        outputs = {key: tf.cast(value, tf.float32) for key, value in results.items()}
        if "features" in outputs:
            axes = list(range(1, len(outputs["features"].shape) - 1))
            outputs["featuresAvg"] = tf.reduce_mean(outputs["features"], axes)
            outputs["featuresMax"] = tf.reduce_max(outputs["features"], axes)
        keys[:] = [key for key in OUTPUTS if key in outputs]
        return [outputs[key] for key in keys]

    shape = [None, network.height, network.width, 3]
    signature = tf.TensorSpec(shape, tf.float32, name=INPUT)
    function = tf.function(forward, input_signature=[signature], autograph=False)
    return function.get_concrete_function(), keys
