"""A process of its own that trains one model, or tells what models are, as `fork_server` starts it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparkdl._keras import keras
from sparkdl.estimators import fork_server
from sparkdl.exceptions import SparkDLError, SparkDLValueError


class Reporter:
    """Lines of JSON to the driver while the trial runs; where it cannot be reached, nothing is sent."""

    def __init__(self, place: dict[str, Any] | None) -> None:
        self._socket: socket.socket | None = None
        if place is None:
            return
        try:
            self._socket = socket.create_connection((place["host"], place["port"]), timeout=3)
            self._common = {"trial": place["trial"]}
            self._write(place["token"])
        except OSError:
            self._socket = None

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message; who does not listen any more is forgotten."""
        self._write(json.dumps({**self._common, **message}) if self._socket else "")

    def _write(self, line: str) -> None:
        if self._socket is not None:
            try:
                self._socket.sendall(f"{line}\n".encode())
            except OSError:
                self._socket = None


def main() -> None:
    """Does what is asked, and writes what came of it where the request says."""
    with suppress(Exception):  # Fails once more below, and is reported there.
        keras()
        importlib.import_module("sparkdl.estimators.training")
    request = fork_server.served()
    try:
        report = _examined(request) if "examine" in request else _trained(request)
    except BaseException as error:
        report = _failure(error)
    with open(request["report"], "w") as file:
        json.dump(report, file)


def _examined(request: dict[str, Any]) -> dict[str, Any]:
    """For each spec what the compiled model is, or why there is none."""
    from sparkdl.estimators import compiling

    found = []
    for spec in request["examine"]:
        try:
            model, _ = compiling.compiled(spec, Path(spec["file"]))
            compiling.callbacks(spec["callbacks"])
            found.append(compiling.facts(model))
        except SparkDLError as error:
            found.append(_failure(error))
    return {"found": found}


def _trained(request: dict[str, Any]) -> dict[str, Any]:
    if request["gpus"] is not None:  # TensorFlow has not looked for any yet.
        os.environ["CUDA_VISIBLE_DEVICES"] = request["gpus"]
    _limit_threads(request["threads"], request["spec"]["seed"] is not None)
    from sparkdl.estimators import data_parallel, training

    known = request["workers"]
    workers = data_parallel.Workers(known["index"], known["addresses"]) if known else None

    reporter = Reporter(request["progress"])
    model, history = training.trained(request, workers, reporter.send)
    if workers is not None and workers.index:
        return {"history": history, "made": []}
    with tempfile.TemporaryDirectory() as folder:
        made = training.saved(model, Path(folder), request["spec"])
        for name, file in made.items():
            with file.open("rb") as source, open(request["results"][name], "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    return {"history": history, "made": sorted(made)}


def _limit_threads(threads: int, repeatable: bool) -> None:
    """Before TensorFlow starts any: afterwards its threads cannot be changed."""
    keras()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if repeatable:
        tf.config.experimental.enable_op_determinism()


def _failure(error: BaseException) -> dict[str, Any]:
    kind = error.kind if isinstance(error, SparkDLError) else "Internal"
    said = str(error) if isinstance(error, SparkDLError) else f"{type(error).__name__}: {error}"
    return {
        "error": said,
        "kind": kind,
        "value": isinstance(error, SparkDLValueError),
        "traceback": "".join(traceback.format_exception(error)),
    }


if __name__ == "__main__":
    main()
