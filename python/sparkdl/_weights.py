"""The weight files that Keras publishes: in the cache, in Keras' own folder, or fetched; always checked."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from sparkdl._cache import digest, exists, locked, setting
from sparkdl.exceptions import SparkDLError
from sparkdl.models import NamedModel, WeightFile

URL_SETTING = "spark.sparkdl.weightsUrl"
URL_VARIABLE = "SPARKDL_WEIGHTS_URL"
_TIMEOUT = 30.0  # Seconds without a byte.


def published_file(row: NamedModel, folder: Path, spark: Any | None = None) -> Path:
    """The weights of a model with its head, from the cache folder or Keras' own, else downloaded."""
    wanted = row.top
    target = folder / "weights" / wanted.name
    if exists(target):
        return _checked(target, wanted)
    keras_file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models" / wanted.name
    if keras_file.exists() and _is_right(keras_file, wanted):
        return keras_file
    with locked(target):
        if not target.exists():
            mirror = setting(spark, URL_SETTING, URL_VARIABLE)
            _download(f"{mirror.rstrip('/')}/{wanted.name}" if mirror else wanted.url, target, wanted)
    return target


def _is_right(path: Path, wanted: WeightFile) -> bool:
    return wanted.hash is None or digest(path, str(wanted.hash_algorithm)) == wanted.hash


def _checked(path: Path, wanted: WeightFile) -> Path:
    if not _is_right(path, wanted):
        raise SparkDLError(
            f"The weights {path} are damaged or not the published ones: their {wanted.hash_algorithm} is not "
            f"{wanted.hash}, which Keras publishes. Delete the file, or put the right one in its place.",
            "Io",
        )
    return path


def _download(url: str, target: Path, wanted: WeightFile) -> None:
    """Fetches a file; it appears under its name only when it is whole and its hash is right."""
    partial = target.with_name(f".{target.name}.download")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, partial.open("wb") as file:
            expected = response.headers.get("Content-Length")
            while chunk := response.read(1 << 20):
                file.write(chunk)
            received = file.tell()
            file.flush()
            os.fsync(file.fileno())
        if expected is not None and received != int(expected):
            raise OSError(f"{received} of {expected} bytes arrived")
        if not _is_right(partial, wanted):
            raise OSError(f"its {wanted.hash_algorithm} hash is not {wanted.hash}, which Keras publishes")
        os.replace(partial, target)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise SparkDLError(
            f"Cannot fetch the weights {url}: {reason}. Put the file at {target} by hand, or name a mirror's "
            f"folder: {URL_SETTING} (or the environment variable {URL_VARIABLE}).",
            "Io",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
