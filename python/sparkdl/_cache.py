"""The cache folder on the driver: where it is, what goes wrong with it, files brought in."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from sparkdl.exceptions import SparkDLError, SparkDLValueError

CACHE_SETTING = "spark.sparkdl.cacheDir"
CACHE_VARIABLE = "SPARKDL_CACHE_DIR"


def setting(spark: Any | None, key: str, variable: str) -> str | None:
    """A setting of the Spark session, else of the environment."""
    value = spark.conf.get(key, None) if spark is not None else None
    return value or os.environ.get(variable) or None


def cache_folder(spark: Any | None = None, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: as given, as set, else the user's own."""
    named = cache_dir or setting(spark, CACHE_SETTING, CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spark-deep-learning"


def folder_error(folder: Path, error: OSError) -> SparkDLError:
    """What a cache folder that cannot be used says."""
    return SparkDLError(
        f"Cannot write to the cache folder {folder}: {type(error).__name__}: {error.strerror}. "
        f"Set {CACHE_SETTING} (or the environment variable {CACHE_VARIABLE}) to a folder that this user can "
        "write.",
        "Io",
    )


def exists(path: Path) -> bool:
    """Whether a file is in the cache; a folder that cannot be read is an error, not an absence."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise folder_error(path.parent, error) from error
    return True


def made(folder: Path) -> Path:
    """The folder, there and writable; new ones are the user's alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise folder_error(folder, error) from error


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Holds the right to make a file: others wait. The lock is the system's, so it dies with its process."""
    folder = made(target.parent)
    try:
        lock = open(folder / f".{target.name}.lock", "w")  # noqa: SIM115 - closed by the block below
    except OSError as error:
        raise folder_error(folder, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Any]:
    """An open binary file that becomes `target` when the block ends well, and is gone when it does not."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file, in hex."""
    found = hashlib.new(algorithm)
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
        return found.hexdigest()
    except OSError as error:
        raise SparkDLError(f"Cannot read {path}: {error.strerror}.", "Io") from error


def local_copy(path: str, spark: Any | None, folder: Path) -> Path:
    """A path of this machine as it is; a URI of any file system that Spark reads, copied into the cache."""
    if is_remote(path):
        return _fetched(path, spark, folder)
    local = local_path(path)
    if not local.is_file():
        raise SparkDLError(f"Cannot read {path}: there is no such file on the driver.", "Io")
    return local


def is_remote(path: str) -> bool:
    """Whether this is a URI of another file system than this machine's."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path)) and not path.startswith("file:")


def local_path(path: str) -> Path:
    """A path or `file:` URI of this machine."""
    return Path(unquote(urlparse(path).path)) if path.startswith("file:") else Path(path).expanduser()


def fetch_all(uri: str, spark: Any | None, folder: Path) -> None:
    """Copies the files of a folder, or of a pattern (`gs://bucket/model.*`), into a local folder."""
    files = _files(uri, spark).select("path", "content")
    # Spark may add the host to what it finds, so only what follows it is compared.
    depth = len(_parts(uri)) - ("*" in uri)
    found = 0
    for file in files.toLocalIterator():
        target = folder.joinpath(*_parts(file["path"])[depth:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file["content"])
        found += 1
    if not found:
        raise SparkDLError(f"Cannot read {uri}: there are no such files.", "Io")


def _parts(uri: str) -> list[str]:
    """The folders of a URI and the name, without scheme and host."""
    path = re.sub("^[^:/]+:(//[^/]*)?", "", uri)
    return [part for part in unquote(path).split("/") if part]


def _files(uri: str, spark: Any | None) -> Any:
    if spark is None:
        raise SparkDLValueError(f"{uri} is not on this machine, and reading it needs a Spark session.")
    return spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(uri)


def _fetched(uri: str, spark: Any | None, folder: Path) -> Path:
    files = _files(uri, spark)
    found = files.select("path", "modificationTime", "length").take(2)
    if len(found) != 1:
        raise SparkDLError(f"Cannot read {uri}: it names {len(found) or 'no'} files, not one.", "Io")
    stamp = hashlib.sha256(repr(tuple(found[0])).encode()).hexdigest()[:16]
    name = unquote(uri.rstrip("/").rsplit("/", 1)[-1])
    target = folder / "files" / f"{stamp}-{name}"
    with locked(target):
        if not target.exists():
            content = files.select("content").first()["content"]
            with appearing(target) as file:
                file.write(content)
    return target
