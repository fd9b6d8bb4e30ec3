"""The weight files that Keras publishes: in the cache, in Keras' own folder, or fetched; always checked."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparkdl import _engine
from sparkdl._cache import appearing, digest, exists, local_copy, locked, made, setting
from sparkdl.exceptions import SparkDLError
from sparkdl.models import NamedModel, WeightFile

URL_SETTING = "spark.sparkdl.weightsUrl"
URL_VARIABLE = "SPARKDL_WEIGHTS_URL"
_ADVICE = f", or name a mirror's folder: {URL_SETTING} (or the environment variable {URL_VARIABLE})"


def published_file(row: NamedModel, folder: Path, spark: Any | None = None) -> Path:
    """The weights of a model with its head, from the cache folder or Keras' own, else downloaded."""
    wanted = row.top
    target = folder / "weights" / wanted.name
    if exists(target):
        return _checked(target, wanted)
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    keras_file = keras_home / "models" / (wanted.cached_as or wanted.name)
    if keras_file.exists() and _is_right(keras_file, wanted):
        return keras_file
    mirror = setting(spark, URL_SETTING, URL_VARIABLE)
    url = f"{mirror.rstrip('/')}/{wanted.name}" if mirror else wanted.url
    if re.match("https?:", url):
        made(target.parent)
        with _progress_shown():
            _engine.download(url, target, wanted.hash_algorithm, wanted.hash, _ADVICE)
    else:
        _copy(url, target, wanted, spark, folder)
    return target


def _copy(uri: str, target: Path, wanted: WeightFile, spark: Any | None, folder: Path) -> None:
    """Takes a file from a mirror that Spark reads, on whichever file system."""
    with locked(target):
        if exists(target):
            return
        source = _checked(local_copy(uri, spark, folder), wanted)
        with source.open("rb") as opened, appearing(target) as file:
            shutil.copyfileobj(opened, file)


@contextlib.contextmanager
def _progress_shown() -> Iterator[None]:
    """Shows the log of a download, which may take minutes, where nobody has set up logging."""
    logger = logging.getLogger("sparkdl.download")
    if logger.hasHandlers() or logger.getEffectiveLevel() != logging.WARNING:
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


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
