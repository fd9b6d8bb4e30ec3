"""One trial in one Spark task: its rows go to files, a process of its own trains on them, bytes come back.

The files have no names any more while the process maps them, so nothing stays behind where a task is killed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa

from sparkdl._batches import with_condition
from sparkdl._processes import path, unnamed_file
from sparkdl.estimators import fork_server
from sparkdl.exceptions import SparkDLError, SparkDLValueError

RESULT = "chunk int, bytes binary"
"""What a task gives: in chunk -1 what came of the trial, as JSON, then the bytes of its files in order."""
BEGIN, END = "----- trial", "----- end of trial"
"""Around what a trial that failed says, in the text that Spark makes of it."""

_CHUNK = 8 << 20
_FEW = 1 << 20
_SUFFIXES = ("keras", "sparkdl")


@dataclass(frozen=True)
class Trial:
    """What a task needs to know; small, because it travels with it."""

    model: str
    """The Keras file's name among Spark's files."""
    spec: dict[str, Any]
    """How the model is compiled and trained."""
    inputs: tuple[dict[str, Any], ...]
    """Of each input `dtype`, `shape`, and for levels `channelOrder` and `normalization`."""
    labels: dict[str, Any]
    weighted: bool
    progress: dict[str, Any] | None
    said: str
    """The params by which a person knows this trial."""
    workers: int = 1
    """How many tasks train together, each with all rows."""


def run(trial: Trial, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Trains on the rows of this task (`key, row, label, weight, x0, …`)."""
    return with_condition(_run(trial, batches))


def _run(trial: Trial, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with ExitStack() as stack:
        fork_server.start()  # Loads Keras while the rows are on their way.
        inputs = [stack.enter_context(unnamed_file()) for _ in trial.inputs]
        rows = stack.enter_context(unnamed_file())
        results = {suffix: stack.enter_context(unnamed_file()) for suffix in _SUFFIXES}
        _spool(batches, inputs, rows)
        workers = _met(trial.workers)
        said = fork_server.asked(_request(trial, inputs, rows, results, workers))
        if "error" in said:
            raise _failed(trial, said)
        if _is_first(workers):
            yield from _chunks(said, {suffix: results[suffix] for suffix in said["made"]})


def _request(
    trial: Trial,
    inputs: list[IO[bytes]],
    rows: IO[bytes],
    results: dict[str, IO[bytes]],
    workers: dict[str, Any] | None,
) -> dict[str, Any]:
    from pyspark import SparkFiles

    return {
        "model": SparkFiles.get(trial.model),
        "spec": trial.spec,
        "rows": path(rows),
        "inputs": [{**i, "file": path(file)} for i, file in zip(trial.inputs, inputs, strict=True)],
        "labels": trial.labels,
        "weighted": trial.weighted,
        "threads": _cores(),
        "gpus": _gpus(),
        "progress": trial.progress if _is_first(workers) else None,
        "workers": workers,
        "results": {suffix: path(file) for suffix, file in results.items()},
    }


def _is_first(workers: dict[str, Any] | None) -> bool:
    """Whether this task tells how training goes and gives the model: one of several workers does."""
    return workers is None or workers["index"] == 0


def _spool(batches: Iterator[pa.RecordBatch], files: list[IO[bytes]], rows: IO[bytes]) -> None:
    columns: dict[str, list[Any]] = {"key": [], "row": [], "label": [], "weight": []}
    # Copies: a view of one column of a batch would hold all of the batch, inputs and all.
    for batch in batches:
        by_name = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns["key"].append(np.array([bytes.fromhex(key) for key in by_name["key"].to_pylist()], "S32"))
        columns["row"].append(by_name["row"].to_numpy().copy())
        columns["weight"].append(by_name["weight"].to_numpy().astype(np.float64))
        label = by_name["label"]
        if pa.types.is_list(label.type):
            flat = label.flatten().to_numpy(zero_copy_only=False)
            columns["label"].append(flat.reshape(batch.num_rows, -1).astype(np.float32))
        else:
            columns["label"].append(label.to_numpy().copy())
        for number, file in enumerate(files):
            for value in by_name[f"x{number}"]:
                file.write(value.as_buffer())
    if not columns["row"]:
        raise SparkDLError("The rows to train on are gone: were files of workDir removed?", "Io")
    whole: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
    np.savez(rows, **whole)
    for file in (*files, rows):
        file.flush()


def _met(count: int) -> dict[str, Any] | None:
    """Where the processes of the tasks that train together find each other, and the seed they share."""
    if count == 1:
        return None
    from pyspark import BarrierTaskContext

    context = BarrierTaskContext.get()
    with socket.create_server(("", 0)) as server:  # TensorFlow takes the port over.
        port = server.getsockname()[1]
    said = context.allGather(json.dumps({"port": port, "seed": secrets.randbits(31)}))
    found = [json.loads(one) for one in said]
    hosts = [task.address.rpartition(":")[0] for task in context.getTaskInfos()]
    addresses = [f"{host}:{one['port']}" for host, one in zip(hosts, found, strict=True)]
    return {"index": context.partitionId(), "addresses": addresses, "seed": found[0]["seed"]}


def result_of(rows: Iterator[Any], targets: dict[str, IO[bytes]]) -> dict[str, Any] | None:
    """Reads what a task gave: files into `targets`, and what came of it; None where something is missing."""
    said: dict[str, Any] | None = None
    written = dict.fromkeys(_SUFFIXES, 0)
    hashes = {suffix: hashlib.sha256() for suffix in _SUFFIXES}
    left = list[tuple[str, int]]()
    for row in rows:
        if row["chunk"] == -1:
            said = json.loads(row["bytes"])
            left = [(suffix, said["files"][suffix]["chunks"]) for suffix in said["made"]]
            continue
        while left and left[0][1] == 0:
            left.pop(0)
        if said is None or not left:
            return None
        suffix, count = left[0]
        left[0] = suffix, count - 1
        targets[suffix].write(row["bytes"])
        hashes[suffix].update(row["bytes"])
        written[suffix] += len(row["bytes"])
    if said is None:
        return None
    whole = all(hashes[suffix].hexdigest() == said["files"][suffix]["sha256"] for suffix in said["made"])
    return said if whole else None


def _chunks(said: dict[str, Any], results: dict[str, IO[bytes]]) -> Iterator[pa.RecordBatch]:
    files = {}
    for suffix, file in results.items():
        found, count = hashlib.sha256(), 0
        file.seek(0)
        while data := file.read(_CHUNK):
            found.update(data)
            count += 1
        files[suffix] = {"sha256": found.hexdigest(), "chunks": count}
    yield _chunk(-1, json.dumps({**said, "files": files}).encode())
    number = 0
    for file in results.values():
        file.seek(0)
        while data := file.read(_CHUNK):
            yield _chunk(number, data)
            number += 1


def _chunk(number: int, data: bytes) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([number], pa.int32()), pa.array([data], pa.binary())], ["chunk", "bytes"]
    )


def _failed(trial: Trial, said: dict[str, Any]) -> SparkDLError:
    # As one line of letters: Spark changes lines of such texts on their way.
    text = f"The trial with {trial.said} failed: {said['error']}"
    packed = base64.b64encode(json.dumps({"text": text, "traceback": said["traceback"][-_FEW:]}).encode())
    message = f"{text}\n{said['traceback']}\n{BEGIN} {packed.decode()} {END}"
    kind = SparkDLValueError if said["value"] else SparkDLError
    return kind(message, said["kind"])


def _cores() -> int:
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    return max(1, int(context.cpus()))


def _gpus() -> str | None:
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    gpu = context.resources().get("gpu")
    return None if gpu is None else ",".join(gpu.addresses)
