"""Other Pythons that we start."""

from __future__ import annotations

import os
import sys


def environment() -> dict[str, str]:
    """For a process of this Python that imports what this one imports, and has Keras on TensorFlow."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
