"""A Keras model made ready to train: loaded, its layers frozen or not, compiled; and what it says of itself.

Only the processes of `trial_process` import this: it loads TensorFlow.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparkdl import _keras_files
from sparkdl._keras import keras
from sparkdl.exceptions import SparkDLValueError

_OWN_METRICS = ("accuracy", "acc", "crossentropy", "ce")
"""Names that Keras' compile knows and `keras.metrics` does not."""
_SPARSE = {"sparse_categorical_crossentropy"}
_CATEGORICAL = {
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "kl_divergence",
}
_HINGES = {"hinge", "squared_hinge"}
_BINARY = {"binary_crossentropy", "binary_focal_crossentropy", "dice", "tversky", *_HINGES}


def imported(name: str, what: str) -> Any:
    """What an importable name (`package.module.Class`, `module:name`) names."""
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SparkDLValueError(
            f"{what} names {name}, which cannot be imported: {error}. Put its module where the Python of the "
            "driver and of the workers finds it."
        ) from error


Flags = list[tuple[Any, bool]]
"""Layers from the outside in, and whether each trains."""


def compiled(spec: dict[str, Any], file: Path) -> tuple[Any, Flags]:
    """The model of a trial, ready for `fit`, and which of its layers trained as it was saved."""
    custom = {name: imported(place, "customObjects") for name, place in spec["customObjects"].items()}
    k = keras()
    if spec["seed"] is not None:
        k.utils.set_random_seed(spec["seed"])
    with k.saving.custom_object_scope(custom):
        model = _loaded(file, spec)
        flags = [(layer, layer.trainable) for layer in model._flatten_layers()]
        _train_only(model, spec["trainableLayers"])
        _compile(model, spec)
    return model, flags


def facts(model: Any) -> dict[str, Any]:
    """What the driver wants to know of a compiled model."""
    name, from_logits = _loss(model)
    family = "sparse" if name in _SPARSE else "categorical" if name in _CATEGORICAL else "values"
    family = "binary" if name in _BINARY else family
    return {
        "name": model.name,
        "inputs": [_tensor(tensor) for tensor in model.inputs],
        "outputs": [_tensor(tensor) for tensor in model.outputs],
        "loss": name,
        "family": family,
        "threshold": 0.0 if from_logits or name in _HINGES else 0.5,
    }


def callbacks(names: Iterable[str]) -> list[Any]:
    """A callback for each name: of Keras' own, or importable."""
    made = []
    for name in names:
        own = getattr(keras().callbacks, name, None)
        if own is None and "." not in name and ":" not in name:
            raise SparkDLValueError(f"kerasCallbacks names {name}: {_near(name, keras().callbacks)}.")
        maker = own or imported(name, "kerasCallbacks")
        try:
            callback = maker()
        except Exception as error:  # whatever a user's code may raise
            raise SparkDLValueError(
                f"kerasCallbacks names {name}, which is called without arguments and raised "
                f"{type(error).__name__}: {error}. Name a function that makes the callback."
            ) from error
        if not isinstance(callback, keras().callbacks.Callback):
            raise SparkDLValueError(f"kerasCallbacks names {name}, which gives no keras.callbacks.Callback.")
        made.append(callback)
    return made


def _loaded(file: Path, spec: dict[str, Any]) -> Any:
    kind = _keras_files.kind(file)
    if not kind.is_whole:
        raise SparkDLValueError(
            f"{spec['modelFile']} holds weights alone, but modelFile must be a whole Keras model.",
            "InvalidModel",
        )
    _keras_files.refuse_code(file, kind, frozenset(spec["customObjects"]))
    try:
        model = keras().saving.load_model(file, compile=spec["loss"] is None, safe_mode=True)
    except Exception as error:  # Keras raises whatever the layer at hand raises.
        raise SparkDLValueError(
            f"Keras cannot read the model {spec['modelFile']}: {_first_line(error)}", "InvalidModel"
        ) from error
    for what, found in (("input", model.inputs), ("output", model.outputs)):
        if not found or (what == "output" and len(found) != 1):
            raise SparkDLValueError(
                f"The model {spec['modelFile']} has {len(found or [])} {what}s, but an estimator trains "
                "models with inputs and one output.",
                "InvalidModel",
            )
    return model


def _train_only(model: Any, names: list[str] | None) -> None:
    if names is None:
        return
    known = dict.fromkeys(layer.name for layer in model._flatten_layers(include_self=False))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3) or list(known)[-5:]
            raise SparkDLValueError(
                f"The model {model.name} has no layer {name} (trainableLayers): did you mean "
                f"{', '.join(near)}?"
            )
    # Setting a model's flag sets those of all its layers, so it goes from the outside in.
    model.trainable = True
    _freeze_others(model, set(names))
    if not model.trainable_weights:
        raise SparkDLValueError(
            f"The layers {', '.join(names)} (trainableLayers) of the model {model.name} have no weights "
            "that train."
        )


def _freeze_others(model: Any, names: set[str]) -> None:
    for layer in model.layers:
        if layer.name in names:
            continue
        inner = {found.name for found in layer._flatten_layers(include_self=False)}
        if hasattr(layer, "layers") and inner & names:
            _freeze_others(layer, names)
        else:
            layer.trainable = False


def _compile(model: Any, spec: dict[str, Any]) -> None:
    k = keras()
    loss, metrics = spec["loss"], spec["metrics"]
    if loss is None and not getattr(model, "compiled", False):
        raise SparkDLValueError(
            f"The model {spec['modelFile']} was saved without a loss: set kerasLoss, as "
            '"categorical_crossentropy".'
        )
    if loss is None and spec["optimizer"] is None and not metrics:
        pass  # as it was compiled
    else:
        optimizer = spec["optimizer"] or (model.optimizer if loss is None else "adam")
        _known(optimizer, k.optimizers, "kerasOptimizer")
        if loss is None:
            loss = model.loss
        _known(loss, k.losses, "kerasLoss")
        for name in metrics:
            if name not in _OWN_METRICS:
                _known(name, k.metrics, "kerasMetrics")
        model.compile(optimizer=k.optimizers.get(optimizer), loss=loss, metrics=list(metrics))
    if isinstance(model.loss, (dict, list, tuple)):
        raise SparkDLValueError(
            f"The model {spec['modelFile']} was saved with several losses: set kerasLoss to the one."
        )
    reduction = getattr(k.losses.get(model.loss), "reduction", "mean")
    if spec["numWorkers"] > 1 and reduction not in ("mean", "sum_over_batch_size"):
        raise SparkDLValueError(
            f"The loss of the model {spec['modelFile']} has the reduction {reduction}, but several workers "
            "need the mean of the rows (sum_over_batch_size): set kerasLoss, or numWorkers to 1."
        )
    if spec["learningRate"] is not None:
        try:
            model.optimizer.learning_rate = spec["learningRate"]
        except TypeError as error:
            raise SparkDLValueError(
                "The optimizer of the model has a schedule of learning rates: clear learningRate, or set "
                "kerasOptimizer."
            ) from error


def _known(name: Any, module: Any, param: str) -> None:
    if not isinstance(name, str):
        return
    try:
        found = module.get(name)
    except (ValueError, TypeError):
        found = None
    if found is None:
        raise SparkDLValueError(f"{param} names {name}: {_near(name, module)}.")


def _near(name: str, module: Any) -> str:
    known = [word for word in dir(module) if not word.startswith("_") and word not in ("get", "serialize")]
    known = [word for word in known if word != "deserialize"]
    folded = {word.lower().replace("_", ""): word for word in known}
    found = difflib.get_close_matches(name.lower().replace("_", ""), folded, 3, 0.5)
    near = ", ".join(folded[word] for word in found) or ", ".join(known)
    return f"Keras has none of this name; it has {near}"


def _loss(model: Any) -> tuple[str, bool]:
    loss = keras().losses.get(model.loss)
    function = getattr(loss, "fn", loss)
    name = getattr(function, "__name__", None) or type(loss).__name__
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return name, bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False))


def _tensor(tensor: Any) -> dict[str, Any]:
    """As the manifest of a bundle has inputs and outputs."""
    return {"name": tensor.name, "tensor": "", "dtype": str(tensor.dtype), "shape": list(tensor.shape[1:])}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
