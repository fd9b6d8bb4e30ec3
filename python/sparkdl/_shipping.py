"""Takes bundles to the workers: as files of the session.

In a closure only for a stream under Spark Connect, whose tasks run outside the session and its files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from weakref import WeakKeyDictionary

from pyspark.sql import SparkSession

from sparkdl import _cache
from sparkdl.exceptions import SparkDLValueError

MAX_CARRIED = 64 << 20
"""Bytes of a bundle in a closure: a message of Spark Connect holds 128 MiB."""

_lock = threading.Lock()
_shipped: WeakKeyDictionary[SparkSession, set[str]] = WeakKeyDictionary()


def is_connect(spark: SparkSession) -> bool:
    """Whether the session is one of Spark Connect: no JVM here, no SparkContext."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def kept_file(spark: SparkSession | None, digest: str, suffix: str = ".sparkdl") -> Path:
    """Where a bundle (or another file) of this digest lies in the cache folder, once it is kept there."""
    return _cache.cache_folder(spark) / "stages" / f"{digest}{suffix}"


def ship(spark: SparkSession, bundle: Path, digest: str, suffix: str = ".sparkdl") -> str:
    """Makes a bundle readable for the session's tasks, once; gives its name among Spark's files."""
    file = _kept(spark, bundle, digest, suffix)
    with _lock:
        shipped = _shipped.setdefault(spark, set())
        if file.name not in shipped:
            _add(spark, file)
            shipped.add(file.name)
    return file.name


def carried(bundle: Path) -> bytes:
    """A bundle to travel in a closure."""
    size = bundle.stat().st_size
    if size > MAX_CARRIED:
        raise SparkDLValueError(
            f"A stream under Spark Connect takes bundles of at most {MAX_CARRIED} bytes, but {bundle} has "
            f"{size}: use a smaller model or a classic session."
        )
    return bundle.read_bytes()


def unpacked(digest: str, content: bytes) -> Path:
    """The bundle that came in a closure, as a file of this machine."""
    file = kept_file(None, digest)
    if not file.exists():
        _cache.made(file.parent)
        with _cache.appearing(file) as copy:
            copy.write(content)
    return file


def _add(spark: SparkSession, file: Path) -> None:
    if is_connect(spark):
        spark.addArtifacts(str(file), file=True)
    elif file.name not in {os.path.basename(path) for path in spark.sparkContext.listFiles}:
        spark.sparkContext.addFile(str(file))


def _kept(spark: SparkSession, bundle: Path, digest: str, suffix: str) -> Path:
    """The bundle under its digest; bundles in the cache are never changed in place, so a link does."""
    file = kept_file(spark, digest, suffix)
    if not file.exists():
        _cache.made(file.parent)
        with contextlib.suppress(FileExistsError):
            if bundle.is_relative_to(file.parent.parent):
                os.link(bundle, file)
            else:
                with _cache.appearing(file) as copy, bundle.open("rb") as original:
                    shutil.copyfileobj(original, copy, 1 << 20)
    return file
