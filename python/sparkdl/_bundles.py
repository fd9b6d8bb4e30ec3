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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkdl import _engine, _processes
from sparkdl._cache import cache_folder, digest, exists, local_copy, locked
from sparkdl._weights import published_file
from sparkdl.exceptions import SparkDLError, SparkDLValueError
from sparkdl.models import NamedModel, named_model, supported_models

PUBLISHED = "imagenet"
_IS_BUNDLE = ".sparkdl"


@dataclass(frozen=True)
class Asked:
    """What a stage says of its model besides its name; empty where it says nothing."""

    expected_sha256: str = ""
    """Of the file that the user names, in lower-case hex."""
    feature_layer: str = ""
    input_size: str = ""
    """HEIGHTxWIDTH, in pixels."""


NOTHING = Asked()


def resolve(
    model_name: str,
    weights: Any,
    spark: Any | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    asked: Asked = NOTHING,
) -> Path:
    """The bundle for a stage's `modelName` and `weights`: given, in the cache, or made now.

    `weights` is "imagenet", the path or URI of a Keras file, or a live keras.Model. For the driver.
    """
    folder = cache_folder(spark, cache_dir)
    if model_name not in supported_models():
        return _given_bundle(model_name, weights, spark, folder, asked)
    row = named_model(model_name)
    layer = asked.feature_layer
    if not isinstance(weights, str):
        return _from_live_weights(row, weights, folder, asked)
    if weights == PUBLISHED:
        target = cached_path(row.name, row.bundle_key, folder, layer)
        file = target if _is_bundle(target, layer) else published_file(row, folder, spark)
    else:
        file = _checked(weights, spark, folder, asked)
        target = cached_path(row.name, _digest_of(file)[:16], folder, layer)
    command = ["--model", row.name, "--weights", PUBLISHED if weights == PUBLISHED else str(file)]
    command += ["--feature-layer", layer] if layer else []

    def make() -> None:
        converted = functools.partial(_engine.convert_keras, file, target, row.name, weights == PUBLISHED)
        _natively_or_by_keras(functools.partial(converted, featureLayer=layer), command, target)

    return _once(target, make, layer)


def resolve_file(
    model_file: Any,
    spark: Any | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    asked: Asked = NOTHING,
) -> Path:
    """The bundle for a stage's `modelFile`: given, in the cache, or made now as a model on tensors.

    `model_file` is the path or URI of a bundle or of a whole Keras file, or a live keras.Model. For the
    driver.
    """
    folder = cache_folder(spark, cache_dir)
    if not isinstance(model_file, str):
        _check_no_digest(asked, "modelFile")
        from sparkdl._live_models import bundle_of

        return bundle_of(model_file, folder, asked.input_size)
    file = _checked(model_file, spark, folder, asked)
    if model_file.endswith(_IS_BUNDLE):
        _engine.describe_bundle(file)  # Raises where it is damaged.
        return file
    size = asked.input_size
    target = cached_path(stem(model_file), _digest_of(file)[:16], folder, size)
    command = ["--tensors", "--model", str(file), *(["--input-size", size] if size else [])]

    def make() -> None:
        converted = functools.partial(_engine.convert_keras, file, target, "", inputSize=size)
        _natively_or_by_keras(converted, command, target)

    return _once(target, make)


def source_digest(model: Any) -> str:
    """The SHA-256 of a live model's configuration and weights."""
    found = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        found.update(str((weight.dtype, weight.shape)).encode())
        found.update(weight.tobytes())
    return found.hexdigest()


def cached_path(name: str, key: str, folder: Path, choice: str = "") -> Path:
    """Where the bundle of a model lies; both languages look there.

    `key` tells its weights, `choice` what else it depends on: the feature layer, or the size of its input.
    """
    words = [clean(name), key, *([clean(choice)] if choice else [])]
    return folder / "bundles" / f"{'-'.join(words)}.sparkdl"


def clean(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def stem(path: str) -> str:
    """The name of a file without folders and without its last extension, as the user wrote it."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return name.rpartition(".")[0] or name


def is_cached(target: Path) -> bool:
    """Whether a whole bundle lies there; what is damaged is made anew."""
    return _is_bundle(target)


def _once(target: Path, make: Callable[[], object], feature_layer: str = "") -> Path:
    """Makes a bundle unless it is there; one process does, others wait for it."""
    if not _is_bundle(
        target, feature_layer
    ):  # Before the lock too: a folder filled in advance may be read-only.
        with locked(target):
            if not _is_bundle(target, feature_layer):
                target.parent.mkdir(parents=True, exist_ok=True)
                make()
    return target


def _given_bundle(path: str, weights: Any, spark: Any | None, folder: Path, asked: Asked) -> Path:
    is_path = path.endswith(_IS_BUNDLE) or "/" in path or os.path.exists(path)
    if not is_path:
        named_model(path)  # Raises, with the names it could have been.
    if weights != PUBLISHED:
        raise SparkDLValueError(
            f"modelName is the bundle {path}, which has weights of its own, so weights must be "
            f'"{PUBLISHED}" but was {weights!r}.'
        )
    file = _checked(path, spark, folder, asked)
    _engine.describe_bundle(file)  # Raises where it is damaged.
    return file


def _from_live_weights(row: NamedModel, model: Any, folder: Path, asked: Asked) -> Path:
    from sparkdl._export import export

    if not hasattr(model, "get_weights") or not hasattr(model, "get_config"):
        raise SparkDLValueError(
            f'weights must be "{PUBLISHED}", the path of a Keras file or a keras.Model but was '
            f"{type(model).__name__}."
        )
    _check_no_digest(asked, "weights")
    layer = asked.feature_layer
    target = cached_path(row.name, source_digest(model)[:16], folder, layer)
    return _once(target, lambda: export(row.name, target, weights=model, feature_layer=layer or None), layer)


def _check_no_digest(asked: Asked, param: str) -> None:
    if asked.expected_sha256:
        raise SparkDLValueError(
            f"expectedSha256 is of a file, but {param} is a live keras.Model: leave expectedSha256 unset."
        )


def _checked(path: str, spark: Any | None, folder: Path, asked: Asked) -> Path:
    """The file on this machine, with the hash that it must have; nothing else of it is read before."""
    file = local_copy(path, spark, folder)
    if asked.expected_sha256 and (found := _digest_of(file)) != asked.expected_sha256:
        raise SparkDLValueError(
            f"{path} has SHA-256 {found}, but expectedSha256 is {asked.expected_sha256}: it is another file "
            "or was changed. Give the right file, or change expectedSha256.",
            "InvalidModel",
        )
    return file


def _is_bundle(path: Path, feature_layer: str = "") -> bool:
    """Whether a whole bundle lies in the cache, of that feature layer; what is damaged is made anew."""
    if not exists(path):
        return False
    status = path.stat()
    layer = _sound_layer(str(path), status.st_size, status.st_mtime_ns)
    return layer is not None and feature_layer in ("", layer)


@functools.lru_cache(maxsize=256)
def _sound_layer(path: str, size: int, modified: int) -> str | None:
    """The feature layer of a bundle, empty where it does not say; None where the bundle is damaged."""
    try:
        manifest: dict[str, Any] = json.loads(_engine.describe_bundle(path)[0])
    except SparkDLValueError:
        return None
    return str(manifest.get("featureLayer", ""))


def _digest_of(file: Path) -> str:
    status = file.stat()
    return _digest_memo(str(file), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest_memo(path: str, size: int, modified: int) -> str:
    return digest(Path(path))


def _natively_or_by_keras(convert: Callable[[], None], command: list[str], target: Path) -> None:
    """Makes the bundle natively, or with Keras where the native reader refuses the file."""
    try:
        convert()
    except SparkDLValueError as error:
        if error.kind != "InvalidModel":
            raise
        logging.getLogger("sparkdl").info("%s Keras is asked instead.", error)
        try:
            _export_elsewhere(command, target)
        except SparkDLError as failure:
            if failure.kind != "TensorFlowUnavailable":
                raise
            raise SparkDLValueError(f"{error} Keras may read it, but: {failure}", error.kind) from failure


def _export_elsewhere(asked: list[str], target: Path) -> None:
    """Runs `python -m sparkdl export` and raises here what it raised there."""
    place = ["--output", str(target), "--cache-dir", str(target.parent.parent)]
    command = [sys.executable, "-m", "sparkdl", "export", "--json", *asked, *place]
    done = subprocess.run(command, env=_processes.environment(), capture_output=True, text=True, check=False)
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
