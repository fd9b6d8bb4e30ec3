"""Keras networks as we need them: read from a file or built from the table, told apart, cut at features.

Keras and TensorFlow are imported here and in `_freeze`, when a model is exported and never before.
"""

from __future__ import annotations

import collections
import difflib
import importlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkdl import _keras_files
from sparkdl.exceptions import SparkDLError, SparkDLValueError
from sparkdl.models import NamedModel, named_models

_OLDEST_KERAS = (3, 11, 3)  # The first whose safe mode also holds for HDF5 files.
_POOLINGS = ("GlobalAveragePooling2D", "GlobalMaxPooling2D", "Flatten")
_IDLE = re.compile("^(InputLayer|Identity|ActivityRegularization|StochasticDepth|Random.*)$|Dropout|Gaussian")
"""Layers that give their input at inference."""


@dataclass(frozen=True)
class Network:
    """A Keras model whose weights are in place, and what the table knows of it."""

    model: Any
    row: NamedModel | None
    features: Any | None
    """The symbolic tensor of the features, as [None, h, w, c]; of a layer that was asked for, of any rank."""
    predictions: Any | None
    """The symbolic tensor of the head, [None, n]."""
    height: int
    width: int


def keras() -> Any:
    """Keras on TensorFlow, quiet; an error that says what to install where it is missing or too old."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        module = importlib.import_module("keras")
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise SparkDLError(
            f"Turning a Keras model into a bundle needs Keras and TensorFlow in {sys.executable}, which "
            f"lacks one ({error}): pip install 'keras>=3.11.3' tensorflow-cpu, or give the path of a bundle.",
            "TensorFlowUnavailable",
        ) from error
    version = tuple(int(part) for part in module.__version__.split(".")[:3] if part.isdigit())
    if version < _OLDEST_KERAS:
        raise SparkDLError(
            f"Keras {module.__version__} is too old to read files safely: pip install -U 'keras>=3.11.3'.",
            "TensorFlowUnavailable",
        )
    if module.backend.backend() != "tensorflow":
        raise SparkDLError(
            f"Keras runs on {module.backend.backend()} in this process; a bundle is made on TensorFlow: set "
            "KERAS_BACKEND=tensorflow before Keras is imported.",
            "TensorFlowUnavailable",
        )
    return module


def whole_model(path: Path) -> Any:
    """A whole model as Keras has it; one that carries code is refused, and so are weights alone."""
    kind = _keras_files.kind(path)
    if not kind.is_whole:
        raise SparkDLValueError(
            f'{path} holds weights alone, so the network must be named: export("MobileNet", weights=…).',
            "InvalidArgument",
        )
    _keras_files.refuse_code(path, kind)
    return _load_whole(path)


def from_file(
    path: Path,
    row: NamedModel,
    arguments: Mapping[str, Any] | None = None,
    feature_layer: str | None = None,
) -> Network:
    """A whole model, or weights alone for the network of `row` (built with `arguments`, as `alpha`)."""
    if _keras_files.kind(path).is_whole:
        return cut(whole_model(path), row, str(path), None, feature_layer)
    return from_weights(path, row, arguments, feature_layer)


def from_weights(
    path: Path,
    row: NamedModel,
    arguments: Mapping[str, Any] | None = None,
    feature_layer: str | None = None,
) -> Network:
    """The network of the table with a file of weights alone, with or without its head."""
    kind = _keras_files.kind(path)
    given = dict(arguments or {})
    model = _build(row, True, given)
    if kind.is_legacy and not _keras_files.fits(path, model):
        headless = _build(row, False, given)
        model = headless if _keras_files.fits(path, headless) else model
    _keras_files.load_weights(path, kind, model, row.name)
    return cut(model, None if given else row, str(path), row, feature_layer)


def published(path: Path, row: NamedModel, feature_layer: str | None = None) -> Network:
    """The network that the published weights are for: as the table's, with the rescaling it names."""
    model = _build(row, True, {})
    if row.published_rescaling is not None:
        model = _with_rescaling(model, row.published_rescaling)
    _keras_files.load_weights(path, _keras_files.kind(path), model, row.name)
    return cut(model, None, str(path), row, feature_layer)


def cut(
    model: Any,
    row: NamedModel | None,
    what: str,
    built_from: NamedModel | None = None,
    feature_layer: str | None = None,
) -> Network:
    """Finds features and head of a model; refuses one that is not of the family `row`.

    Features are the output of `feature_layer`, of the last feature map where that is None.
    """
    _check_picture_model(model, what)
    if built_from is None:
        if row is None:
            row = _family(model)
        elif _differences(model, row):
            raise SparkDLValueError(
                f"{what} is not a {row.name}: {_differences(model, row)}. Name the network it is, or export "
                "it as a bundle.",
                "InvalidModel",
            )
    else:
        row = built_from
    features = _features(model, row)
    height, width = model.inputs[0].shape[1:3]
    if (height is None or width is None) and row is None:
        raise SparkDLValueError(
            f"{what} takes pictures of any size and is of no known family: save it with a fixed input size.",
            "InvalidModel",
        )
    if height is None or width is None:
        assert row is not None
        height, width = row.height, row.width
    predictions = _predictions(model, features)
    if feature_layer is not None:
        features = _layer_output(model, feature_layer, what)
    return Network(model, row, features, predictions, int(height), int(width))


def _load_whole(path: Path) -> Any:
    try:
        return keras().saving.load_model(path, compile=False, safe_mode=True)
    except SparkDLError:
        raise
    except Exception as error:  # Keras raises whatever the layer at hand raises.
        reason = str(error).strip().split("\n")[0]
        raise SparkDLValueError(f"Keras cannot read the model {path}: {reason}", "InvalidModel") from error


def _build(row: NamedModel, include_top: bool, arguments: dict[str, Any]) -> Any:
    function = getattr(keras().applications, row.keras_class)
    shape = (row.height, row.width, 3)
    given = {"input_shape": shape, **row.keras_arguments, **arguments}
    try:
        return function(**{"weights": None, "include_top": include_top, **given})
    except (TypeError, ValueError) as error:
        raise SparkDLValueError(
            f"Keras' {row.name} refuses {arguments}: {error}", "InvalidArgument"
        ) from error


def _with_rescaling(model: Any, scale: tuple[float, ...]) -> Any:
    module = keras()

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        if isinstance(layer, module.layers.Normalization):
            output = module.layers.Rescaling(list(scale))(output)
        return output

    return module.models.clone_model(model, call_function=call)


def check_symbolic(model: Any, what: str) -> None:
    """Refuses what does not say of itself which tensors it takes and gives."""
    if not isinstance(model, keras().Model) or not getattr(model, "inputs", None):
        raise SparkDLValueError(
            f"{what} is not a built functional or sequential keras.Model, so its layers cannot be read.",
            "InvalidModel",
        )


def is_picture_model(model: Any) -> bool:
    """Whether a model takes one picture of three channels and gives one output."""
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    return len(inputs) == len(outputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[3] == 3


def _check_picture_model(model: Any, what: str) -> None:
    check_symbolic(model, what)
    if not is_picture_model(model):
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise SparkDLValueError(
            f"{what} takes {shapes} and gives {[tuple(t.shape) for t in model.outputs]}; a picture model "
            "takes one input [None, height, width, 3] and gives one output.",
            "InvalidModel",
        )


def _family(model: Any) -> NamedModel | None:
    """The row whose layers the model has; of several, which differ in width, one that is as wide."""
    fitting = [row for row in named_models() if not _differences(model, row)]
    features = [_feature_map(model, row) for row in fitting]
    widths = [tensor.shape[-1] for tensor in features if tensor is not None]
    as_wide = (row for row, width in zip(fitting, widths, strict=True) if width == row.features[-1])
    return next(as_wide, fitting[0] if fitting else None)


def _differences(model: Any, row: NamedModel) -> str:
    """What tells a model from the family: empty where nothing does."""
    features = _feature_map(model, row)
    if features is None:
        return f"it has no layer {row.feature_layer}"
    found = layer_counts(model, features)
    wanted = collections.Counter(row.layers)
    if row.published_rescaling is not None and found["Rescaling"] == wanted["Rescaling"] + 1:
        wanted["Rescaling"] += 1
    parts = [f"{n} more {name}" for name, n in sorted((found - wanted).items())]
    parts += [f"{n} fewer {name}" for name, n in sorted((wanted - found).items())]
    return f"up to the layer {row.feature_layer} it has {', '.join(parts)}" if parts else ""


def _feature_map(model: Any, row: NamedModel) -> Any | None:
    """The family's features, of the model or of a network inside it that takes its input as it is."""
    features = _own_feature_map(model, row)
    if features is not None:
        return features
    module = keras()
    for layer in model.layers:
        if isinstance(layer, module.Model) and layer.inputs and _takes_the_input(model, layer):
            features = _feature_map(layer, row)
            if features is not None:
                return features
    return None


def _own_feature_map(model: Any, row: NamedModel) -> Any | None:
    """The row's feature layer's output; of layers Keras only counted, the one with the same before it."""
    counted = re.sub(r"_\d+$", "", row.feature_layer)
    same = [
        node.outputs[0]
        for node in _nodes(model)
        if re.fullmatch(rf"{counted}(_\d+)?", node.operation.name)
        and _snake_case(type(node.operation).__name__) == counted
    ]
    if not same:
        return _output_of(model, row.feature_layer)
    wanted = collections.Counter(row.layers)
    return next((tensor for tensor in same if layer_counts(model, tensor) == wanted), same[0])


def _snake_case(name: str) -> str:
    from keras.src.utils.naming import to_snake_case

    return str(to_snake_case(name))


def _takes_the_input(model: Any, layer: Any) -> bool:
    first = next(inner for inner in model.layers if type(inner).__name__ != "InputLayer")
    return first is layer


def layer_counts(model: Any, output: Any) -> collections.Counter[str]:
    """How many layers of each class a tensor of the model depends on, without those that compute nothing."""
    operations: dict[int, str] = {}
    known = {id(tensor) for tensor in model.inputs}
    open_ends = [output]
    while open_ends:
        tensor = open_ends.pop()
        if id(tensor) in known:
            continue
        known.add(id(tensor))
        operation, node, _ = tensor._keras_history
        operations[id(operation)] = type(operation).__name__
        open_ends.extend(operation._inbound_nodes[node].input_tensors)
    return collections.Counter(name for name in operations.values() if not _IDLE.search(name))


def _features(model: Any, row: NamedModel | None) -> Any | None:
    """The row's feature layer, else what the last global pooling or flattening takes, else a 4-D output."""
    own = None if row is None else _own_feature_map(model, row)
    if own is not None:
        return own
    for node in _nodes(model):
        if type(node.operation).__name__ in _POOLINGS and len(node.input_tensors[0].shape) == 4:
            return node.input_tensors[0]
    output = model.outputs[0]
    return output if len(output.shape) == 4 else None


def _layer_output(model: Any, layer: str, what: str) -> Any:
    names = [node.operation.name for node in _nodes(model)]
    if layer not in names:
        near = difflib.get_close_matches(layer, names, 3) or names[:3]
        raise SparkDLValueError(
            f"{what} has no layer {layer} to take features from; it has {', '.join(near)} and others.",
            "InvalidModel",
        )
    tensor = _output_of(model, layer)
    assert tensor is not None
    if len(tensor.shape) < 2:
        raise SparkDLValueError(
            f"The layer {layer} of {what} gives {tuple(tensor.shape)}, from which no features can be taken.",
            "InvalidModel",
        )
    return tensor


def _output_of(model: Any, layer: str) -> Any | None:
    return next((node.outputs[0] for node in _nodes(model) if node.operation.name == layer), None)


def _nodes(model: Any) -> list[Any]:
    """The calls of layers that make up the model, the last first.

    A layer's own `input` and `output` are of its first call, which may belong to another model.
    """
    by_depth = (getattr(model, "_functional", None) or model)._nodes_by_depth
    return [node for depth in sorted(by_depth) for node in by_depth[depth]]


def _predictions(model: Any, features: Any | None) -> Any | None:
    """The model's output, where a layer with weights lies between the features and it."""
    output = model.outputs[0]
    if len(output.shape) != 2:
        return None
    if features is None:
        return output
    head = keras().Model(features, output)
    return output if any(layer.weights for layer in head.layers) else None
