"""What Keras says of models and of names, asked of a process of its own before any job starts."""

from __future__ import annotations

import json
from typing import Any

from sparkdl.estimators import fork_server
from sparkdl.exceptions import SparkDLError, SparkDLValueError

_known: dict[str, dict[str, Any]] = {}
"""By what was asked; small answers of models that compiled."""
_MOST_KNOWN = 1000
_KEPT = (
    "modelFile",
    "sha256",
    "customObjects",
    "optimizer",
    "loss",
    "metrics",
    "trainableLayers",
    "callbacks",
    "numWorkers",
)


def facts(specs: list[dict[str, Any]], paths: list[str]) -> list[dict[str, Any]]:
    """For each spec, with the path of its file, what its compiled model is: name, inputs, outputs, loss.
    Raises where one has none.
    """
    asked = [
        json.dumps(_of_the_model(spec, path), sort_keys=True) for spec, path in zip(specs, paths, strict=True)
    ]
    new = [key for key in dict.fromkeys(asked) if key not in _known]
    if new:
        if len(_known) > _MOST_KNOWN:
            _known.clear()
        for key, found in zip(new, _ask([json.loads(key) for key in new]), strict=True):
            if "error" in found:
                raise (SparkDLValueError if found["value"] else SparkDLError)(found["error"], found["kind"])
            _known[key] = found
    return [_known[key] for key in asked]


def _of_the_model(spec: dict[str, Any], path: str) -> dict[str, Any]:
    """What of a spec the answer depends on: any learning rate is like another one."""
    kept = {name: spec[name] for name in _KEPT}
    return {**kept, "file": path, "seed": None, "learningRate": None if spec["learningRate"] is None else 1.0}


def _ask(specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    said = fork_server.asked({"examine": specs})
    if "error" in said:
        raise SparkDLError(f"{said['error']}\n{said['traceback']}", said["kind"])
    found: list[dict[str, Any]] = said["found"]
    return found
