"""Names and tensors of TensorFlow graphs, and graphs with constants for variables.

TensorFlow is imported by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparkdl._tensor import nearest
from sparkdl.exceptions import SparkDLValueError


def op_name(tfobj_or_name: Any, graph: Any | None = None) -> str:
    """The name of an operation: its own, or that behind a tensor or a tensor's name (`x:0` is of `x`).

    With a graph the operation must be in it.
    """
    name = _name(tfobj_or_name).lstrip("^").split(":")[0]
    if graph is not None:
        get_op(name, graph)
    return name


def tensor_name(tfobj_or_name: Any, graph: Any | None = None) -> str:
    """The name of a tensor, `x:0`: its own, or of the first output of an operation.

    With a graph the tensor must be in it.
    """
    name = _name(tfobj_or_name)
    name = name if ":" in name else f"{name}:0"
    if graph is not None:
        get_tensor(name, graph)
    return name


def get_op(tfobj_or_name: Any, graph: Any) -> Any:
    """The operation of this name, or behind this tensor."""
    name = op_name(tfobj_or_name)
    try:
        return graph.get_operation_by_name(name)
    except KeyError as error:
        near = nearest(name, [operation.name for operation in graph.get_operations()])
        raise SparkDLValueError(f"The graph has no operation {name}; the nearest: {near}.") from error


def get_tensor(tfobj_or_name: Any, graph: Any) -> Any:
    """The tensor of this name, or the first output of this operation."""
    name = tensor_name(tfobj_or_name)
    outputs = get_op(name, graph).outputs
    index = name.rpartition(":")[2]
    if not index.isdigit() or int(index) >= len(outputs):
        raise SparkDLValueError(
            f"The graph has no tensor {name}: the operation {op_name(name)} has {len(outputs)} outputs."
        )
    return outputs[int(index)]


def get_shape(tfobj_or_name: Any, graph: Any) -> list[int | None]:
    """The sides of a tensor; None where one is of any size."""
    shape = get_tensor(tfobj_or_name, graph).shape
    if shape.rank is None:
        raise SparkDLValueError(f"The rank of {tensor_name(tfobj_or_name)} is open.")
    sides: list[int | None] = shape.as_list()
    return sides


def validated_graph(graph: Any) -> Any:
    """The graph itself; refuses what is none."""
    import tensorflow as tf

    if not isinstance(graph, tf.Graph):
        raise SparkDLValueError(f"A tf.Graph is needed, but this is a {type(graph).__name__}.")
    return graph


def validated_input(tfobj_or_name: Any, graph: Any) -> str:
    """The name of an operation that can be fed: a placeholder of this graph."""
    operation = get_op(tfobj_or_name, graph)
    if operation.type not in ("Placeholder", "PlaceholderWithDefault"):
        raise SparkDLValueError(f"The input {operation.name} is not a Placeholder but a {operation.type}.")
    return str(operation.name)


def validated_output(tfobj_or_name: Any, graph: Any) -> str:
    """The name of an operation of this graph that gives something."""
    operation = get_op(tfobj_or_name, graph)
    if not operation.outputs:
        raise SparkDLValueError(f"The output {operation.name} ({operation.type}) gives no tensor.")
    return str(operation.name)


def strip_and_freeze_until(
    fetches: Sequence[Any], graph: Any, sess: Any | None = None, return_graph: bool = False
) -> Any:
    """What runs of a graph for these tensors, its variables as the constants that they are in the session.

    A `GraphDef`, or with `return_graph` a `tf.Graph`. Without a session the graph must have no variables.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    names = [op_name(fetch, graph) for fetch in fetches]
    definition = validated_graph(graph).as_graph_def(add_shapes=True)
    if sess is None:
        definition = v1.graph_util.extract_sub_graph(definition, names)
        variables = [n.name for n in definition.node if n.op in ("VarHandleOp", "VariableV2", "Variable")]
        if variables:
            raise SparkDLValueError(
                f"The graph has the variable {variables[0]}: give the session it lives in."
            )
    else:
        definition = v1.graph_util.convert_variables_to_constants(sess, definition, names)
    if not return_graph:
        return definition
    frozen = tf.Graph()
    with frozen.as_default():
        tf.import_graph_def(definition, name="")
    return frozen


def _name(tfobj_or_name: Any) -> str:
    name = tfobj_or_name if isinstance(tfobj_or_name, str) else getattr(tfobj_or_name, "name", None)
    if not isinstance(name, str) or not name:
        raise SparkDLValueError(f"A tensor, an operation or a name is needed, but this is {tfobj_or_name!r}.")
    return name
