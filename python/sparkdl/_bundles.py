"""From what a user names (a model and its weights) to a bundle on the driver's disk, made once and kept.

Keras works in a process of its own: the driver, which may be a notebook that lives for days, is not left with
TensorFlow in its memory. Only a live model is turned into a bundle where it lives.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkdl import _engine
from sparkdl._cache import cache_folder, digest, exists, local_copy, locked
from sparkdl._weights import published_file
from sparkdl.exceptions import SparkDLError, SparkDLValueError
from sparkdl.models import NamedModel, named_model, supported_models

PUBLISHED = "imagenet"


def resolve(
    model_name: str, weights: Any, spark: Any | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """The bundle for a stage's `modelName` and `weights`: given, in the cache, or made now.

    `weights` is "imagenet", the path or URI of a Keras file, or a live keras.Model. For the driver.
    """
    folder = cache_folder(spark, cache_dir)
    if model_name not in supported_models():
        return _given_bundle(model_name, weights, spark, folder)
    row = named_model(model_name)
    if not isinstance(weights, str):
        return _from_live_model(row, weights, folder)
    if weights == PUBLISHED:
        target = cached_path(row.name, row.bundle_key, folder)
        file = target if _is_bundle(target) else published_file(row, folder, spark)
    else:
        weights = str(local_copy(weights, spark, folder))
        target = cached_path(row.name, _digest_of(weights)[:16], folder)
        file = Path(weights)
    if not _is_bundle(target):  # Asked before the lock too: a folder filled in advance may be read-only.
        with locked(target):
            if not _is_bundle(target):
                _make(row, weights, file, target)
    return target


def source_digest(model: Any) -> str:
    """The SHA-256 of a live model's configuration and weights."""
    found = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        found.update(str((weight.dtype, weight.shape)).encode())
        found.update(weight.tobytes())
    return found.hexdigest()


def cached_path(name: str, key: str, folder: Path) -> Path:
    """Where the bundle of a model and its weights lies; both languages look there."""
    return folder / "bundles" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{key}.sparkdl"


def _given_bundle(path: str, weights: Any, spark: Any | None, folder: Path) -> Path:
    is_path = path.endswith(".sparkdl") or "/" in path or os.path.exists(path)
    if not is_path:
        named_model(path)  # Raises, with the names it could have been.
    if weights != PUBLISHED:
        raise SparkDLValueError(
            f"modelName is the bundle {path}, which has weights of its own, so weights must be "
            f'"{PUBLISHED}" but was {weights!r}.'
        )
    file = local_copy(path, spark, folder)
    _engine.describe_bundle(file)  # Raises where it is damaged.
    return file


def _from_live_model(row: NamedModel, model: Any, folder: Path) -> Path:
    from sparkdl._export import export

    if not hasattr(model, "get_weights") or not hasattr(model, "get_config"):
        raise SparkDLValueError(
            f'weights must be "{PUBLISHED}", the path of a Keras file or a keras.Model but was '
            f"{type(model).__name__}."
        )
    target = cached_path(row.name, source_digest(model)[:16], folder)
    with locked(target):
        return target if _is_bundle(target) else export(row.name, target, weights=model)


def _is_bundle(path: Path) -> bool:
    """Whether a whole bundle lies in the cache; what is damaged is made anew."""
    if not exists(path):
        return False
    status = path.stat()
    return _is_sound(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _is_sound(path: str, size: int, modified: int) -> bool:
    try:
        _engine.describe_bundle(path)
    except SparkDLValueError:
        return False
    return True


def _digest_of(weights: str) -> str:
    status = os.stat(weights)
    return _digest_memo(weights, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest_memo(path: str, size: int, modified: int) -> str:
    return digest(Path(path))


def _make(row: NamedModel, weights: str, file: Path, target: Path) -> None:
    """Makes the bundle natively, or with Keras where the native reader refuses the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _engine.convert_keras(file, target, row.name, weights == PUBLISHED)
    except SparkDLValueError as error:
        if error.kind != "InvalidModel":
            raise
        logging.getLogger("sparkdl").info("%s Keras is asked instead.", error)
        _export_elsewhere(row, weights, target)


def _export_elsewhere(row: NamedModel, weights: str, target: Path) -> None:
    """Runs `python -m sparkdl export` and raises here what it raised there."""
    folder = target.parent.parent
    asked = ["export", "--json", "--model", row.name, "--weights", weights, "--output", str(target)]
    environment: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "KERAS_BACKEND": "tensorflow",
    }
    command = [sys.executable, "-m", "sparkdl", *asked, "--cache-dir", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    try:
        said = json.loads(lines[-1])
    except (IndexError, ValueError):
        said = {
            "error": f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-2000:]}",
            "kind": "Internal",
        }
    if "error" in said:
        kinds = {"InvalidArgument", "InvalidModel", "InvalidBatch"}
        raise (SparkDLValueError if said["kind"] in kinds else SparkDLError)(said["error"], said["kind"])
