"""Other Pythons that we start."""

from __future__ import annotations

import importlib.metadata
import os
import sys


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
    try:
        import pyspark

        is_same = importlib.metadata.version("pyspark") == pyspark.__version__
    except ImportError:
        return paths
    return sorted(paths, key=lambda path: is_same and os.path.basename(path) == "pyspark.zip")
