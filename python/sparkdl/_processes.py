"""Other Pythons that we start, and files that they share with this one."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
import tempfile
from typing import IO


def environment() -> dict[str, str]:
    """For a process of this Python that imports what this one imports, and has Keras on TensorFlow."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(_paths()),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


def _paths() -> list[str]:
    """Where this Python imports from.

    Spark puts PySpark first for its workers, in a zip, of which each process compiles again what it imports:
    seconds. Where the same PySpark is installed, that one comes first.
    """
    paths = [path for path in sys.path if path]
    if not _same_is_installed():
        return paths
    return sorted(paths, key=lambda path: os.path.basename(path) == "pyspark.zip")


@functools.cache
def _same_is_installed() -> bool:
    try:
        import pyspark

        return importlib.metadata.version("pyspark") == pyspark.__version__
    except ImportError:
        return False


def unnamed_file() -> IO[bytes]:
    """A file without a name, in Spark's folder of a task: nothing stays behind where a process is killed."""
    local = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")
    return tempfile.TemporaryFile(dir=next(filter(os.path.isdir, local), None))


def path(file: IO[bytes]) -> str:
    """Where another process opens such a file, as long as this one has it open."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"
