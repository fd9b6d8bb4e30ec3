"""Keras files before Keras sees them: their format, whether they carry code, whether weights fit."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkdl.exceptions import SparkDLError, SparkDLValueError

# Layers that run code or read files of their own when they are loaded.
_REFUSED = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "__lambda__"}


@dataclass(frozen=True)
class Kind:
    """The format of a file: whole model or weights alone, zip or HDF5, of Keras 3 or an older one."""

    is_whole: bool
    is_zip: bool
    is_legacy: bool


def kind(path: Path) -> Kind:
    """Tells the format by content, not by name."""
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise SparkDLError(f"Cannot read the weights {path}: {error.strerror}.", "Io") from error
    if magic[:4] == b"PK\x03\x04":
        return Kind(is_whole=True, is_zip=True, is_legacy=False)
    if magic != b"\x89HDF\r\n\x1a\n":
        raise SparkDLValueError(
            f"{path} is neither a Keras file (*.keras, *.h5) nor a bundle (*.sparkdl): it starts {magic!r}.",
            "InvalidModel",
        )
    with _hdf5(path) as file:
        if "model_config" in file.attrs:
            return Kind(is_whole=True, is_zip=False, is_legacy=True)
        if "layer_names" in file.attrs:
            return Kind(is_whole=False, is_zip=False, is_legacy=True)
        if "layers" in file or "_layer_checkpoint_dependencies" in file:
            return Kind(is_whole=False, is_zip=False, is_legacy=False)
    raise SparkDLValueError(f"{path} is an HDF5 file, but not one that Keras wrote.", "InvalidModel")


def refuse_code(path: Path, kind: Kind, trusted: frozenset[str] = frozenset()) -> None:
    """Refuses a whole model with a layer that is not Keras' own, or that carries code, by its name.

    `trusted` are classes that the caller names and brings along.
    """
    for name, class_name, module, registered in _layers(_config(path, kind)):
        # What a script or notebook defines has a registered name and no module; old files have neither.
        is_keras = (module or "keras").split(".")[0] in ("keras", "builtins")
        is_keras = is_keras and (module is not None or not registered)
        if class_name not in _REFUSED and {class_name, registered} & trusted:
            continue
        if class_name in _REFUSED or not is_keras or registered not in (None, "", class_name):
            raise SparkDLValueError(
                f"{path} has the layer {name!r} of class {class_name}, which is not one of Keras' own layers "
                "or carries code: refused. Build the model from Keras' layers, or export it as a live model.",
                "InvalidModel",
            )


def load_weights(path: Path, kind: Kind, model: Any, name: str) -> None:
    """Loads weights alone: by name where the names agree, else in order; what differs is an error."""
    if kind.is_whole:
        raise SparkDLValueError(f"{path} is a whole model where weights alone are expected.", "InvalidModel")
    if kind.is_legacy:
        difference = difference_from(path, model)
        if difference:
            raise SparkDLValueError(f"The weights {path} do not fit {name}: {difference}.", "InvalidModel")
        by_name = [layer for layer, _ in _stored(path)] != [layer for layer, _ in _expected(model)]
        by_name = by_name and _same_names(path, model)
        _keras_load(model, path, ".h5", {"by_name": True} if by_name else {}, name)
    else:
        _keras_load(model, path, ".weights.h5", {}, name)


def fits(path: Path, model: Any) -> bool:
    """Whether a legacy weight file has just the layers and shapes of the model."""
    return difference_from(path, model) == ""


def difference_from(path: Path, model: Any) -> str:
    """The first thing in which a legacy weight file and the model differ: empty where they agree."""
    stored, expected = _stored(path), _expected(model)
    if _same_names(path, model):
        shapes = dict(stored)
        pairs = [(layer, shapes[layer], wanted) for layer, wanted in expected]
    elif len(stored) != len(expected):
        return f"the file has weights for {len(stored)} layers, the network has {len(expected)}"
    else:  # Keras numbers some layers by process, so their names say nothing; their order does.
        pairs = [(layer, found, wanted) for (_, found), (layer, wanted) in zip(stored, expected, strict=True)]
    for layer, found, wanted in pairs:
        if found != wanted:
            return f"layer {layer} has weights of shapes {found} in the file, {wanted} in the network"
    return ""


def _same_names(path: Path, model: Any) -> bool:
    return {layer for layer, _ in _stored(path)} == {layer for layer, _ in _expected(model)}


def _stored(path: Path) -> list[tuple[str, list[tuple[int, ...]]]]:
    layers = []
    with _hdf5(path) as file:
        for name in _attribute(file, "layer_names"):
            group = file[name]
            shapes = [tuple(group[weight].shape) for weight in _attribute(group, "weight_names")]
            if shapes:
                layers.append((name, shapes))
    return layers


def _expected(model: Any) -> list[tuple[str, list[tuple[int, ...]]]]:
    layers = [
        (layer.name, [tuple(w.shape) for w in layer.trainable_weights + layer.non_trainable_weights])
        for layer in model.layers
    ]
    return [(name, shapes) for name, shapes in layers if shapes]


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names; Keras splits long ones over attributes `name0`, `name1`, …"""
    if name in group.attrs:
        values = list(group.attrs[name])
    else:
        values = []
        while f"{name}{len(values)}" in group.attrs:
            values.append(group.attrs[f"{name}{len(values)}"])
        values = [value for chunk in values for value in chunk]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _keras_load(model: Any, path: Path, suffix: str, arguments: dict[str, Any], name: str) -> None:
    """Keras tells formats by the file's name, so a file with another name is loaded through a link."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"weights{suffix}"
        link.symlink_to(path.resolve())
        try:
            model.load_weights(str(link), **arguments)
        except Exception as error:  # Keras raises whatever the layer at hand raises.
            reason = " ".join(str(error).split())
            raise SparkDLValueError(
                f"The weights {path} do not fit {name}: {reason}", "InvalidModel"
            ) from error


def _config(path: Path, kind: Kind) -> Any:
    try:
        if kind.is_zip:
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        with _hdf5(path) as file:
            return json.loads(file.attrs["model_config"])
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SparkDLValueError(f"{path} is damaged or not a Keras model: {error}", "InvalidModel") from error


def _layers(config: Any) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Every object of a configuration: its name, class, module and registered name."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            inner = config.get("config")
            name = inner.get("name") if isinstance(inner, dict) else None
            registered = config.get("registered_name")
            if config["class_name"] == "function":
                registered = None
            yield str(name), config["class_name"], config.get("module"), registered
        for value in config.values():
            yield from _layers(value)
    elif isinstance(config, list):
        for value in config:
            yield from _layers(value)


def _hdf5(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise SparkDLValueError(f"{path} is a damaged HDF5 file: {error}", "InvalidModel") from error
