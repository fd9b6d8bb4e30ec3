"""The only importer of the compiled module: what it knows, and models opened in the process that runs them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from sparkdl import _native


def version() -> str:
    """The version of the wheel and of the core."""
    return _native.version()


@cache
def error_kinds() -> dict[str, tuple[str, str]]:
    """Kind to Spark's error condition and SQLSTATE."""
    return {name: (condition, state) for name, condition, state in _native.error_kinds()}


@cache
def named_models() -> list[dict[str, Any]]:
    """The rows of the table of built-in models."""
    models: list[dict[str, Any]] = json.loads(_native.named_models())["models"]
    return models
