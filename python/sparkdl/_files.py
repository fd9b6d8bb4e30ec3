"""Files by URI in a worker: several at a time, ahead of the computation, in order.

Local and mounted paths, what Arrow's file systems open, and what fsspec opens where it is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import pyarrow as pa

from sparkdl._batches import Piece
from sparkdl._prefetch import Cancelled, Prefetch, Share
from sparkdl.exceptions import SparkDLError

MAX_FILE = 256 << 20
"""Bytes of a file; larger ones are invalid."""
_THREADS = 8
_AHEAD = 64
_HELD = 128 << 20
_PIECE = 128 << 20
_CHUNK = 4 << 20
_PACKAGES = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "ftp": "fsspec",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "fsspec aiohttp",
    "https": "fsspec aiohttp",
    "oss": "ossfs",
    "s3": "s3fs",
    "s3a": "s3fs",
    "sftp": "fsspec paramiko",
    "wasb": "adlfs",
    "wasbs": "adlfs",
}


class Unreadable(Exception):
    """Why a row has no file; its text is the reason."""


@dataclass(frozen=True)
class Files:
    """A model's input: the bytes of the files that a column names."""

    column: int

    def pieces(self, batches: Iterator[pa.RecordBatch], batch_size: int) -> Iterator[Piece]:
        """The rows in order, with their files; fewer at a time than `batch_size` where files are large."""
        with Prefetch(_read, _THREADS, _AHEAD, _HELD) as prefetch:
            for batch in batches:
                uris = batch.column(self.column).to_pylist()
                for start, found in gathered(prefetch.results(uris), batch_size, _PIECE):
                    end = start + len(found)
                    files = [file if isinstance(file, bytes) else None for file in found]
                    reasons = [str(file) if isinstance(file, Unreadable) else None for file in found]
                    rows = batch.slice(start, len(found))
                    yield Piece(rows, [pa.array(files, pa.binary())], uris[start:end], reasons)


def gathered(found: Iterator[Any], most: int, most_bytes: int) -> Iterator[tuple[int, list[Any]]]:
    """Results in groups that go through the model together, each with the place of its first."""
    start, group, size = 0, list[Any](), 0
    for one in found:
        group.append(one)
        size += len(one) if isinstance(one, bytes) else getattr(one, "nbytes", 0)
        if len(group) == most or size >= most_bytes:
            yield start, group
            start, group, size = start + len(group), [], 0
    if group:
        yield start, group


def _read(uri: str | None, share: Share) -> bytes | Unreadable:
    if uri is None:
        return Unreadable("null")
    try:
        with contextlib.closing(_opened(uri)) as file:
            return _content(file, share)
    except Unreadable as reason:
        return reason
    except (FileNotFoundError, NotADirectoryError):
        return Unreadable("there is no such file")
    except IsADirectoryError:
        return Unreadable("it is a folder")
    except (Cancelled, SparkDLError):
        raise
    except Exception as error:  # File systems raise whatever their libraries do.
        return Unreadable(f"it cannot be read: {getattr(error, 'strerror', None) or error}")


def _content(file: BinaryIO, share: Share) -> bytes:
    chunks = list[bytes]()
    size = 0
    while True:
        share.set(size + _CHUNK)
        chunk = file.read(_CHUNK)
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_FILE:
            raise Unreadable(f"it is larger than {MAX_FILE} bytes")
    share.set(size)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _opened(uri: str) -> Any:
    scheme, rest = _split(uri)
    if scheme == "":
        return _local([rest])
    if scheme == "file":
        return _local(_spellings(rest))
    if scheme == "dbfs" and os.path.isdir("/dbfs"):
        path = "/" + rest.lstrip("/")
        mounted = path if path.startswith("/Volumes/") else f"/dbfs{path}"
        return _local(_spellings(mounted))
    return _remote(uri, scheme, rest)


def _split(uri: str) -> tuple[str, str]:
    """Scheme and what follows its colon. A letter before the colon is a name of its own, not a scheme."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", uri, re.DOTALL)
    if found is None or os.path.lexists(uri):
        return "", uri
    return found[1].lower(), found[2]


def _spellings(path: str) -> list[str]:
    """How a file may be called on disk. With `//` the name is percent-encoded, as Spark's `input_file_name`
    has it; with one slash it is not, as `binaryFile.path` has it. The likelier spelling comes first.
    """
    local = re.sub("^//(localhost)?/", "/", path)
    both = [unquote(local), local] if local != path else [local, unquote(local)]
    return list(dict.fromkeys(both))


def _local(paths: list[str]) -> BinaryIO:
    path = next((path for path in paths if os.path.lexists(path)), paths[0])
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Unreadable("it is no file but a device or a pipe")  # Which could make the task wait for ever.
    return open(path, "rb", buffering=0)


def _remote(uri: str, scheme: str, rest: str) -> Any:
    from pyarrow import fs

    authority, _, path = rest.removeprefix("//").partition("/")
    base = _arrow_system("s3" if scheme in ("s3a", "s3n") else scheme, authority)
    if base is None:
        return _by_fsspec(uri, scheme)
    system, folder = base
    paths = [f"{folder.rstrip('/')}/{path}" for path in dict.fromkeys([path, unquote(path)])]
    infos = system.get_file_info(paths)
    found = next((info for info in infos if info.type != fs.FileType.NotFound), infos[0])
    if found.type == fs.FileType.Directory:
        raise IsADirectoryError
    return system.open_input_stream(found.path)


@lru_cache(maxsize=64)
def _arrow_system(scheme: str, authority: str) -> tuple[Any, str] | None:
    """Arrow's file system for URIs that begin so, and its path of their root; None where Arrow has none."""
    from pyarrow import fs

    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(f"{scheme}://{quote(authority, safe=':@%[]')}/")
        return found
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
        return None


def _by_fsspec(uri: str, scheme: str) -> Any:
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(uri)
    except ImportError as error:
        raise SparkDLError(
            f"Nothing in the Python of the workers opens {uri}: pip install "
            f"{_PACKAGES.get(scheme, 'fsspec')} there for URIs of the scheme {scheme} ({error}).",
            "Io",
        ) from error
    except ValueError as error:
        raise Unreadable(f"nothing opens URIs of the scheme {scheme}") from error
    return system.open(path, "rb")
