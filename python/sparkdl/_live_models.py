"""Live Keras models as bundles on tensors: saved and read natively, or else frozen where they live."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sparkdl import _bundles, _engine
from sparkdl._cache import digest, locked, made
from sparkdl.exceptions import SparkDLValueError

_frozen: WeakKeyDictionary[Any, tuple[str, Path]] = WeakKeyDictionary()
"""What was frozen of a model that lives still, with the hash of what it was then."""


def bundle_of(model: Any, folder: Path, size: str) -> Path:
    """The bundle of a live model, in the cache folder; another one when its weights have changed."""
    source = _source_digest(model)
    target = _bundles.cached_path(model.name, source[:16], folder, size)
    if _bundles.is_cached(target):
        return target
    key = f"{source} {size}"
    if (known := _frozen.get(model)) and known[0] == key and _bundles.is_cached(known[1]):
        return known[1]
    with locked(target):
        reason = _read_natively(model, target, size)
        if reason is None:
            return target
        logging.getLogger("sparkdl").info("%s The live model is frozen by TensorFlow instead.", reason)
        frozen = _freeze(model, target, folder, size)
    _frozen[model] = key, frozen
    return frozen


def _source_digest(model: Any) -> str:
    try:
        return _bundles.source_digest(model)
    except NotImplementedError as error:
        reason = " ".join(str(error).split())
        raise SparkDLValueError(
            f"The live model {model.name} has a layer whose configuration Keras cannot tell: {reason}",
            "InvalidModel",
        ) from error


def _read_natively(model: Any, target: Path, size: str) -> Exception | None:
    """Writes the bundle, or gives the reason why it cannot be made so."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        try:
            model.save(file)
            _engine.convert_keras(file, target, "", inputSize=size)
        except SparkDLValueError as error:
            if error.kind != "InvalidModel":
                raise
            return error
        except Exception as error:  # Keras raises whatever the layer at hand raises.
            return error
    return None


def _freeze(model: Any, target: Path, folder: Path, size: str) -> Path:
    """Its name is of its content: what a custom layer computes stands in no configuration."""
    from sparkdl._export import export

    height, _, width = size.partition("x")
    sides = (int(height), int(width)) if size else None
    with tempfile.TemporaryDirectory(dir=made(target.parent)) as temporary:
        file = export(model, Path(temporary) / "model.sparkdl", tensors=True, input_size=sides)
        named = _bundles.cached_path(model.name, digest(file)[:16], folder, size)
        os.replace(file, named)
    return named
