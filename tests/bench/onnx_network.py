"""Keras' MobileNetV2 as an ONNX graph, layer by layer, for the benchmark's ONNX Runtime rival."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

Layer = Any
Node = Any


class Writer:
    """Collects nodes and weights; ONNX Runtime folds batch norms and pads itself when it loads the file."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: list[Any] = []

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def convolution(writer: Writer, layer: Layer, inputs: list[str]) -> str:
    kernel = layer.get_weights()[0]
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    turned = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
    attributes = {"strides": list(layer.strides), "group": kernel.shape[2] if depthwise else 1}
    attributes["auto_pad"] = "SAME_UPPER" if layer.padding == "same" else "VALID"
    return writer.node(
        "Conv", [*inputs, writer.weight(layer.name + "/kernel", turned)], layer.name, **attributes
    )


def batch_norm(writer: Writer, layer: Layer, inputs: list[str]) -> str:
    names = [writer.weight(f"{layer.name}/{index}", value) for index, value in enumerate(layer.get_weights())]
    return writer.node("BatchNormalization", [*inputs, *names], layer.name, epsilon=float(layer.epsilon))


def relu(writer: Writer, layer: Layer, inputs: list[str]) -> str:
    bounds = [writer.weight(f"{layer.name}/{bound}", np.float32(bound)) for bound in (0, layer.max_value)]
    return writer.node("Clip", [*inputs, *bounds], layer.name)


def padding(writer: Writer, layer: Layer, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.padding
    pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    return writer.node("Pad", [*inputs, writer.weight(layer.name + "/pads", pads)], layer.name)


def pooling(writer: Writer, layer: Layer, inputs: list[str]) -> str:
    pooled = writer.node("GlobalAveragePool", inputs, layer.name + "/pooled")
    return writer.node("Flatten", [pooled], layer.name)


def dense(writer: Writer, layer: Layer, inputs: list[str]) -> str:
    kernel, bias = (
        writer.weight(f"{layer.name}/{index}", value) for index, value in enumerate(layer.get_weights())
    )
    logits = writer.node("Gemm", [*inputs, kernel, bias], layer.name + "/logits")
    return writer.node("Softmax", [logits], layer.name)


def add(writer: Writer, layer: Layer, inputs: list[str]) -> str:
    return writer.node("Add", inputs, layer.name)


LAYERS: dict[str, Callable[[Writer, Layer, list[str]], str]] = {
    "Conv2D": convolution,
    "DepthwiseConv2D": convolution,
    "BatchNormalization": batch_norm,
    "ReLU": relu,
    "ZeroPadding2D": padding,
    "GlobalAveragePooling2D": pooling,
    "Dense": dense,
    "Add": add,
}


def write(model: Layer, path: Path) -> None:
    """Writes the model: input `image`, float32 [n, height, width, 3]; output `scores`, float32 [n, k]."""
    writer = Writer()
    height, width, channels = model.input_shape[1:]
    names = {model.input.name: writer.node("Transpose", ["image"], "channels_first", perm=[0, 3, 1, 2])}
    for layer in model.layers[1:]:
        arguments = layer.input if isinstance(layer.input, list) else [layer.input]
        names[layer.output.name] = LAYERS[type(layer).__name__](
            writer, layer, [names[a.name] for a in arguments]
        )
    writer.node("Identity", [names[model.output.name]], "scores")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", height, width, channels])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", model.output_shape[1]])
    graph = helper.make_graph(writer.nodes, model.name, [image], [scores], writer.weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(made)
    save(made, str(path))
