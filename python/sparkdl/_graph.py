"""A frozen graph as a dictionary of nodes to be simplified: same results, fewer and cheaper operations."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = list[int | None]

_PASSED_THROUGH = (
    "ReadVariableOp",
    "Identity",
    "IdentityN",
    "StopGradient",
    "PreventGradient",
    "CheckNumerics",
)
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


class Graph:
    """The part of a graph that its outputs need. Tensors are named as in a GraphDef: `node` or `node:1`."""

    def __init__(self, definition: Any, outputs: Mapping[str, str], captured: Mapping[str, Array]) -> None:
        """Takes a GraphDef, each output's tensor by its new name, and values by nodes that stand for them.

        Values stay outside the nodes until the end: weights are large, and protobuf copies what it is given.
        """
        self._nodes = {node.name: node for node in definition.node}
        self._versions = definition.versions
        self._values = dict(captured)
        for name in captured:
            self._nodes[name].op = "Const"
        for node in self._of("Const"):
            if node.name not in captured:
                self._values[node.name] = _array(node)
            node.ClearField("attr")
        self._outputs = {name: self._source(tensor) for name, tensor in outputs.items()}

    def bypass_identities(self) -> None:
        """Drops control edges, identities and multiplications by one, which training or Keras needed."""
        for node in self._nodes.values():
            kept = [self._source(name) for name in node.input if not name.startswith("^")]
            del node.input[:]
            node.input.extend(kept)
        self._prune()

    def evaluate_constants(self) -> None:
        """Replaces what depends on no input by its value."""
        constant = self._constant_nodes()
        wanted = sorted(
            {
                tensor
                for node in self._nodes.values()
                if node.name not in constant
                for tensor in node.input
                if _node_of(tensor) in constant and self._nodes[_node_of(tensor)].op != "Const"
            }
        )
        for tensor, value in zip(wanted, self._evaluate(wanted), strict=True):
            self._redirect(tensor, self._add_constant(value))
        self._prune()

    def fix_reshapes(self) -> None:
        """Makes a reshape that reads the batch size off its input static: the batch size is what remains."""
        for node in self._of("Reshape"):
            pack = self._nodes[_node_of(node.input[1])]
            if pack.op != "Pack" or not self._is_batch_size(pack.input[0]):
                continue
            rest = [self._constant(name) for name in pack.input[1:]]
            if all(value is not None and value >= 0 for value in rest):
                shape = [-1, *(int(value) for value in rest if value is not None)]
                node.input[1] = self._add_constant(np.array(shape, np.int32))
                node.attr["Tshape"].type = _dtype(np.int32)
        self._prune()

    def merge_batch_norm(self) -> None:
        """Puts `convolution · scale + shift` into the convolution's own kernel and bias."""
        consumers = self._consumers()
        for add in self._of("AddV2"):
            found = self._scaled_convolution(add, consumers)
            if found is not None:
                self._put_into_convolution(add, *found)
        self._prune()

    def merge_padding(self, shape_of: Callable[[str], Shape]) -> None:
        """Puts zero padding into the VALID convolution behind it; a depthwise one only what equals SAME."""
        consumers = self._consumers()
        for pad in self._of("Pad"):
            paddings = self._constant(pad.input[1])
            users = consumers[pad.name]
            if paddings is None or len(users) != 1 or users[0].op not in _CONVOLUTIONS:
                continue
            convolution, size = users[0], shape_of(pad.input[0])
            if convolution.attr["padding"].s != b"VALID" or None in size[1:3] or paddings[[0, 3]].any():
                continue
            if self._equals_same(convolution, paddings, size):
                convolution.attr["padding"].s = b"SAME"
            elif convolution.op == "Conv2D":
                convolution.attr["padding"].s = b"EXPLICIT"
                convolution.attr["explicit_paddings"].list.i[:] = [int(n) for n in paddings.flatten()]
            else:
                continue
            convolution.input[0] = pad.input[0]
        self._prune()

    def serialized(self, types: Mapping[str, npt.DTypeLike] | None = None) -> bytes:
        """The GraphDef, nodes in the order they run, named by kind and place, outputs as asked.

        `types` are those of outputs that are not float32.
        """
        from tensorflow.core.framework import graph_pb2

        definition = graph_pb2.GraphDef(versions=self._versions)
        names: dict[str, str] = {}
        for node in self._in_running_order():
            copy = definition.node.add()
            self._copy(node, copy)
            copy.name = names[node.name] = (
                node.name if node.op == "Placeholder" else f"{node.op}_{len(names)}"
            )
            copy.input[:] = [_renamed(tensor, names) for tensor in node.input]
            for key in [key for key in copy.attr if key.startswith("_")]:
                del copy.attr[key]
        for name, tensor in self._outputs.items():
            output = definition.node.add(name=name, op="Identity", input=[_renamed(tensor, names)])
            output.attr["T"].type = _dtype((types or {}).get(name, np.float32))
        return bytes(definition.SerializeToString(deterministic=True))

    def operations(self) -> dict[str, int]:
        """How often each operation is there."""
        return dict(collections.Counter(node.op for node in self._nodes.values()))

    def _source(self, tensor: str) -> str:
        """The tensor behind any identities, its output number left out where it is 0."""
        name, _, index = tensor.partition(":")
        node = self._nodes[name]
        data = [name for name in node.input if not name.startswith("^")]
        if node.op in _PASSED_THROUGH:
            return self._source(data[int(index or 0)])
        if node.op == "Mul":
            for one, other in (data, data[::-1]):
                value = self._constant(self._source(one))
                if value is not None and value.ndim == 0 and value == 1:
                    return self._source(other)
        return name if index in ("", "0") else tensor

    def _of(self, op: str) -> list[Any]:
        return [node for node in self._nodes.values() if node.op == op]

    def _constant(self, tensor: str) -> Array | None:
        return self._values.get(_node_of(tensor))

    def _copy(self, node: Any, copy: Any) -> None:
        copy.CopyFrom(node)
        if node.op == "Const":
            value = self._values[node.name]
            copy.attr["dtype"].type = _dtype(value.dtype)
            tensor = copy.attr["value"].tensor
            tensor.dtype = _dtype(value.dtype)
            for size in value.shape:
                tensor.tensor_shape.dim.add(size=size)
            tensor.tensor_content = value.tobytes()

    def _constant_nodes(self) -> set[str]:
        constant: set[str] = set()
        for node in self._in_running_order():
            if (
                not _is_stateful(node.op)
                and node.op != "Placeholder"
                and all(_node_of(tensor) in constant for tensor in node.input)
            ):
                constant.add(node.name)
        return constant

    def _evaluate(self, tensors: list[str]) -> list[Array]:
        import tensorflow as tf

        if not tensors:
            return []
        definition = tf.compat.v1.GraphDef(versions=self._versions)
        keep = _ancestors(self._nodes, [_node_of(tensor) for tensor in tensors])
        for name in sorted(keep):
            self._copy(self._nodes[name], definition.node.add())
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(definition, name="")
            with tf.compat.v1.Session(graph=graph) as session:
                fetches = [tensor if ":" in tensor else f"{tensor}:0" for tensor in tensors]
                return [np.asarray(value) for value in session.run(fetches)]

    def _add_constant(self, value: Array) -> str:
        from tensorflow.core.framework import node_def_pb2

        name = next(n for i in itertools.count(len(self._nodes)) if (n := f"constant_{i}") not in self._nodes)
        self._nodes[name] = node_def_pb2.NodeDef(name=name, op="Const")
        self._values[name] = value
        return name

    def _redirect(self, tensor: str, target: str) -> None:
        for node in self._nodes.values():
            node.input[:] = [target if name == tensor else name for name in node.input]
        self._outputs = {name: target if at == tensor else at for name, at in self._outputs.items()}

    def _consumers(self) -> dict[str, list[Any]]:
        """The nodes that read each node; an output of the graph counts as one that is no node we change."""
        consumers: dict[str, list[Any]] = collections.defaultdict(list)
        for node in self._nodes.values():
            for tensor in node.input:
                consumers[_node_of(tensor)].append(node)
        for tensor in self._outputs.values():
            consumers[_node_of(tensor)] += [self._nodes[_node_of(tensor)]] * 2
        return consumers

    def _is_batch_size(self, tensor: str) -> bool:
        slice_ = self._nodes[_node_of(tensor)]
        if slice_.op != "StridedSlice" or self._nodes[_node_of(slice_.input[0])].op != "Shape":
            return False
        bounds = [self._constant(name) for name in slice_.input[1:3]]
        return [None if bound is None else bound.tolist() for bound in bounds] == [[0], [1]]

    def _scaled_convolution(
        self, add: Any, consumers: dict[str, list[Any]]
    ) -> tuple[Any, Array, Array] | None:
        """Convolution, scale and shift where `add` is (convolution + bias) · scale + shift, not shared."""
        multiply, shift = self._operands(add)
        if multiply is None or multiply.op != "Mul" or len(consumers[multiply.name]) != 1:
            return None
        convolution, scale = self._operands(multiply)
        if convolution is None or shift is None or scale is None or len(consumers[convolution.name]) != 1:
            return None
        if convolution.op == "BiasAdd":
            bias = self._constant(convolution.input[1])
            convolution = self._nodes[_node_of(convolution.input[0])]
            if bias is None or len(consumers[convolution.name]) != 1:
                return None
            shift = shift.reshape(-1) + scale.reshape(-1) * bias
        if convolution.op not in _CONVOLUTIONS:
            return None
        kernel = self._constant(convolution.input[1])
        channels = 0 if kernel is None else _output_channels(convolution.op, kernel)
        same = scale.size == shift.size == channels and scale.shape[-1:] == (channels,)
        return (convolution, scale.reshape(-1), shift.reshape(-1)) if same else None

    def _operands(self, node: Any) -> tuple[Any | None, Array | None]:
        """A binary node's variable operand and its constant one, in float64."""
        for one, other in (node.input, node.input[::-1]):
            value = self._constant(other)
            if value is not None and value.dtype == np.float32:
                return self._nodes[_node_of(one)], value.astype(np.float64)
        return None, None

    def _put_into_convolution(self, add: Any, convolution: Any, scale: Array, shift: Array) -> None:
        kernel = self._constant(convolution.input[1])
        assert kernel is not None
        factors = scale if convolution.op == "Conv2D" else scale.reshape(kernel.shape[2:])
        convolution.input[1] = self._add_constant((kernel * factors).astype(np.float32))
        add.op = "BiasAdd"
        add.input[:] = [convolution.name, self._add_constant(shift.astype(np.float32))]
        add.attr["data_format"].s = b"NHWC"

    def _equals_same(self, convolution: Any, paddings: Array, size: Shape) -> bool:
        kernel = self._constant(convolution.input[1])
        strides, dilations = convolution.attr["strides"].list.i, convolution.attr["dilations"].list.i
        if kernel is None or any(step != 1 for step in dilations):
            return False
        for axis in (1, 2):
            length, width, stride = int(size[axis] or 0), kernel.shape[axis - 1], strides[axis]
            total = max((-(-length // stride) - 1) * stride + width - length, 0)
            if paddings[axis].tolist() != [total // 2, total - total // 2]:
                return False
        return True

    def _in_running_order(self) -> Iterator[Any]:
        """Every node after those it reads, depth first from the outputs: the same for the same network."""
        done: set[str] = set()
        stack = [(name, False) for name in reversed(self._roots())]
        while stack:
            name, ready = stack.pop()
            if name in done:
                continue
            node = self._nodes[name]
            if ready or not node.input:
                done.add(name)
                yield node
            else:
                stack.append((name, True))
                stack.extend((_node_of(tensor), False) for tensor in reversed(node.input))

    def _roots(self) -> list[str]:
        """What must be there: the outputs, and the inputs even where no output needs them."""
        outputs = [_node_of(tensor) for tensor in self._outputs.values()]
        return [*outputs, *(node.name for node in self._of("Placeholder"))]

    def _prune(self) -> None:
        keep = _ancestors(self._nodes, self._roots())
        self._nodes = {name: node for name, node in self._nodes.items() if name in keep}
        self._values = {name: value for name, value in self._values.items() if name in keep}


def _ancestors(nodes: Mapping[str, Any], names: list[str]) -> set[str]:
    found: set[str] = set()
    while names:
        name = names.pop()
        if name not in found:
            found.add(name)
            names.extend(_node_of(tensor) for tensor in nodes[name].input)
    return found


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _is_stateful(op: str) -> bool:
    """Whether an operation may give another value each time, as random numbers do."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    return definition is not None and definition.is_stateful


def _array(node: Any) -> Array:
    from tensorflow.python.framework.tensor_util import MakeNdarray

    return np.asarray(MakeNdarray(node.attr["value"].tensor))


def _renamed(tensor: str, names: Mapping[str, str]) -> str:
    name, colon, index = tensor.partition(":")
    return names[name] + colon + index


def _output_channels(op: str, kernel: Array) -> int:
    return int(kernel.shape[3] if op == "Conv2D" else kernel.shape[2] * kernel.shape[3])


def _dtype(dtype: npt.DTypeLike) -> int:
    from tensorflow.python.framework.dtypes import as_dtype

    return int(as_dtype(np.dtype(dtype)).as_datatype_enum)
