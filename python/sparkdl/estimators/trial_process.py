"""A process of its own that trains one model, or tells what models are: `python -m` this.

What it is asked comes as a line of JSON through a pipe that stays open: it ends with the process that started
it, even where that is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import shutil
import signal
import socket
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparkdl._keras import keras
from sparkdl.exceptions import SparkDLError, SparkDLValueError

_PR_SET_PDEATHSIG = 1


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
    requests = _end_with_parent()
    with suppress(Exception):  # Fails once more below, and is reported there.
        keras()  # Takes seconds, in which the rows are still on their way.
    request = requests.get()
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


def _end_with_parent() -> queue.Queue[dict[str, Any]]:
    """Sees to it; gives where the request will be."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()

    def wait() -> None:
        # Without a buffer, whose lock the interpreter would wait for at its end.
        with open(0, "rb", buffering=0) as pipe:
            for line in pipe:
                requests.put(json.loads(line))
        os._exit(1)  # Whoever held the other end of the pipe is gone.

    threading.Thread(target=wait, daemon=True).start()
    return requests


if __name__ == "__main__":
    main()
