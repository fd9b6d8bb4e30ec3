"""A Keras model of any inputs and outputs as a bundle on tensors: what the native reader does not build."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparkdl import _bundles
from sparkdl._bundle_file import Source, write_bundle
from sparkdl._cache import locked
from sparkdl._keras import check_symbolic, keras
from sparkdl.exceptions import SparkDLValueError

DTYPES = ("bool", "float32", "float64", "int32", "int64", "uint8")
"""The types of inputs and outputs that the bundle of a Keras model has."""

Size = tuple[int, int]


def export_tensors(
    source: Source, output: str | os.PathLike[str] | None, name: str | None, size: Size | None, folder: Path
) -> Path:
    """Freezes a model and writes it as a bundle, without `output` into the cache folder.

    `size` is height and width of pictures where the model leaves them open.
    """
    import tensorflow as tf

    model = source.network
    check_symbolic(model, source.what)
    signature = [_signature(tensor, index, size) for index, tensor in enumerate(model.inputs)]
    graph, outputs = _freeze(model, signature)
    inputs = [
        {"name": tensor.name, "tensor": f"{spec.name}:0", **_described(spec)}
        for tensor, spec in zip(model.inputs, signature, strict=True)
    ]
    manifest = {
        "format": "sparkdl-bundle",
        "version": 2,
        "name": name or model.name,
        "inputs": inputs,
        "outputs": [{"name": n, **o} for n, o in zip(_output_names(model), outputs, strict=True)],
        "graph": {"file": "graph.pb", "sha256": ""},
        "source": {
            "weights": source.weights,
            "sha256": source.sha256,
            "keras": keras().__version__,
            "tensorflow": tf.__version__,
        },
        "license": "",
    }
    if output is not None:
        return write_bundle(Path(output), manifest, graph)
    stem = _bundles.stem(source.what) if source.weights == "file" else model.name
    sides = "x".join(str(side) for side in size) if size else ""
    target = _bundles.cached_path(stem, source.sha256[:16], folder, sides)
    with locked(target):
        return write_bundle(target, manifest, graph)


def _signature(tensor: Any, index: int, size: Size | None) -> Any:
    import tensorflow as tf

    shape = list(tensor.shape)
    if size is not None and len(shape) == 4:
        shape[1:3] = [own or asked for own, asked in zip(shape[1:3], size, strict=True)]
    return tf.TensorSpec(shape, _stored(tensor.dtype, f"The input {tensor.name}"), f"input_{index}")


def _stored(dtype: str, what: str) -> str:
    """The type under which a bundle has a tensor: what Keras computes in half precision comes as float32."""
    if dtype in DTYPES:
        return dtype
    if dtype in ("float16", "bfloat16"):
        return "float32"
    if dtype in ("int8", "int16", "uint16"):
        return "int32"
    raise SparkDLValueError(
        f"{what} is of type {dtype}; the bundle of a Keras model has {', '.join(DTYPES)}.", "InvalidModel"
    )


def _described(tensor: Any) -> dict[str, Any]:
    return {"dtype": tensor.dtype.name, "shape": tensor.shape[1:].as_list()}


def _output_names(model: Any) -> list[str]:
    """The names of the layers that give the outputs; a second output of a layer has a number behind it."""
    names: list[str] = []
    for tensor in model.outputs:
        layer = tensor._keras_history.operation.name
        same = sum(known == layer for known in names)
        name, count = layer, same
        while name in names:
            name, count = f"{layer}_{max(count, 1)}", count + 1
        names.append(name)
    return names


def _freeze(model: Any, signature: Sequence[Any]) -> tuple[bytes, list[dict[str, Any]]]:
    """The graph, and each output as the manifest has it, in order."""
    import tensorflow as tf

    flat = keras().Model(model.inputs, model.outputs)

    def forward(*tensors: Any) -> list[Any]:
        pairs = zip(tensors, model.inputs, strict=True)
        results = flat([tf.cast(tensor, own.dtype) for tensor, own in pairs], training=False)
        return [
            tf.cast(result, _stored(result.dtype.name, "An output")) for result in tf.nest.flatten(results)
        ]

    function = tf.function(forward, input_signature=signature, autograph=False).get_concrete_function()
    names = [f"output_{index}" for index in range(len(function.outputs))]
    described = [
        {"tensor": f"{name}:0", **_described(tensor)}
        for name, tensor in zip(names, function.outputs, strict=True)
    ]
    return _graph(function, names), described


def _graph(function: Any, names: list[str]) -> bytes:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from sparkdl._freeze import captured_values, simplified

    types = {name: tensor.dtype.as_numpy_dtype for name, tensor in zip(names, function.outputs, strict=True)}
    if not function.graph.as_graph_def().library.function:
        traced, captured = captured_values(function)
        outputs = {name: tensor.name for name, tensor in zip(names, traced.outputs, strict=True)}
        return simplified(traced, outputs, captured).serialized(types)
    # Loops and branches are functions of their own: TensorFlow freezes those, and they stay as they are.
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    definition = frozen.graph.as_graph_def()
    for name, tensor in zip(names, frozen.outputs, strict=True):
        node = definition.node.add(name=name, op="Identity", input=[tensor.name])
        node.attr["T"].type = tensor.dtype.as_datatype_enum
    return bytes(definition.SerializeToString(deterministic=True))
