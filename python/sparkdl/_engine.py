"""The only importer of the compiled module: what it knows, and Arrow batches run by it in the workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from sparkdl import _native, _shipping
from sparkdl.exceptions import SparkDLError

_VECTOR_VALUES = pa.field("values", pa.list_(pa.field("element", pa.float64(), nullable=False)))
_VECTOR_FIELDS = [
    pa.field("type", pa.int8(), nullable=False),
    pa.field("size", pa.int32()),
    pa.field("indices", pa.list_(pa.field("element", pa.int32(), nullable=False))),
    _VECTOR_VALUES,
]
_DENSE = 1  # as VectorUDT spells it
MAX_NUMBERS = 1 << 27
"""Of one output batch: 1 GiB of doubles, well below the 2 GiB of Arrow's offsets."""


def version() -> str:
    """The version of the wheel and of the core."""
    return _native.version()


@cache
def error_kinds() -> dict[str, tuple[str, str]]:
    """Kind to Spark's error condition and SQLSTATE."""
    return {name: (condition, state) for name, condition, state in _native.error_kinds()}


def named_models() -> str:
    """The table of built-in models, as JSON."""
    return _native.named_models()


def imagenet_labels() -> str:
    """ImageNet's `[synset, label]` pairs in class order, as JSON."""
    return _native.imagenet_labels()


def describe_bundle(path: str | os.PathLike[str]) -> tuple[str, str]:
    """A bundle's manifest, as JSON, and the SHA-256 of the file. Checks the bundle, loads no TensorFlow."""
    return _native.describe_bundle(path)


def convert_keras(
    file: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model_name: str,
    published: bool = False,
) -> None:
    """Writes a Keras file as a bundle. Needs neither Keras nor TensorFlow.

    Without a `model_name` the bundle is the whole model as a graph on tensors. `published` says that the file
    is the one that Keras publishes for that model.
    """
    options = {
        "file": os.fspath(file),
        "output": os.fspath(output),
        "modelName": model_name,
        "published": "true" if published else "false",
        "featureLayer": "",
        "inputSize": "",
    }
    _native.convert_keras(list(options.items()))


def download(
    url: str, file: str | os.PathLike[str], algorithm: str | None, digest: str | None, advice: str
) -> None:
    """Fetches a file over HTTP: resumed, checked, atomic. `advice` ends the message of an error."""
    options = {
        "url": url,
        "file": os.fspath(file),
        "hash": digest or "",
        "hashAlgorithm": (algorithm or "") if digest else "",
        "maxBytes": str(4 << 30),
        "connectSeconds": "30",
        "stallSeconds": "30",
        "retries": "4",
        "pauseMillis": "1000",
        "httpProxy": "",
        "httpsProxy": "",
        "noProxy": "",
        "advice": advice,
    }
    _native.download(list(options.items()))


def decode_images(batch: pa.RecordBatch, options: list[tuple[str, str]]) -> pa.RecordBatch:
    """Decodes a batch of one picture column into columns `image` (Spark's image struct) and `error`."""
    return pa.record_batch(_native.decode_images(batch, options))


@dataclass(frozen=True)
class Task:
    """What a worker needs to know; small, because it travels with every task."""

    bundle: str
    """File name of the bundle among Spark's files; its digest, where it is carried."""
    carried: bytes | None
    """The bundle itself, where the tasks do not see those files."""
    options: tuple[tuple[str, str], ...]
    """Of the model, without `model` and `threads`, which the worker adds."""
    tensorflow_path: str
    threads: int
    column: int
    """Position of the picture column."""
    name_columns: tuple[int, ...]
    """Positions of the columns that may name a row's picture, the first that does holds."""
    batch_size: int
    output: str
    """`vector`, `array` or `topK`."""
    handle_invalid: str
    with_reason: bool


def run(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs one partition: appends the output, and the reason where asked, to every row."""
    try:
        yield from _run(task, batches)
    except SparkDLError as error:
        # Spark hands only the text to the driver, so the condition goes with it.
        raise type(error)(f"[{error.getCondition()}] {error}", error.kind) from None


def _run(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    model = None
    row = 0
    for batch in batches:
        for start in range(0, batch.num_rows, task.batch_size):
            model = model or _open(task)
            rows = batch.slice(start, task.batch_size)
            pictures = pa.record_batch([rows.column(task.column)], ["picture"])
            result = pa.record_batch(model.run(pictures))
            yield _append(task, rows, result, row)
            row += rows.num_rows


def _open(task: Task) -> _native.Model:
    from pyspark import SparkFiles

    _native.load_tensorflow(
        [
            ("tensorflowPath", task.tensorflow_path or os.environ.get("SPARKDL_TENSORFLOW_PATH", "")),
            ("tensorflowClasspath", ""),
            ("python", sys.executable),
        ]
    )
    if task.carried is None:
        bundle = SparkFiles.get(task.bundle)
    else:
        bundle = str(_shipping.unpacked(task.bundle, task.carried))
    return _native.Model([("model", bundle), *task.options, ("threads", str(threads(task.threads)))])


def configured_threads(spark: Any) -> int:
    """Threads of one native call as the session's settings have them; 0: not set."""
    return int(spark.conf.get("spark.sparkdl.threads", None) or 0)


def threads(configured: int) -> int:
    """Threads of one native call in this process; 0 lets the core choose."""
    # Spark starts a worker process per task and tells it by this variable how many cores the task has.
    asked = configured or int(os.environ.get("SPARKDL_THREADS") or 0)
    cores = os.environ.get("OMP_NUM_THREADS", "")
    return asked or (int(cores) if cores.isdigit() else 0)


def _append(task: Task, rows: pa.RecordBatch, result: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
    output, reasons = result.column("output"), result.column("error")
    if task.handle_invalid == "error" and reasons.null_count < len(reasons):
        raise _invalid_row(task, rows, reasons, first_row)
    columns = [*rows.columns, _column(task.output, output)]
    if task.with_reason:
        columns.append(reasons)
    # Spark reads columns by position.
    done = pa.RecordBatch.from_arrays(columns, [f"_{index}" for index in range(len(columns))])
    return done.filter(reasons.is_null()) if task.handle_invalid == "skip" else done


def _column(kind: str, output: pa.Array) -> pa.Array:
    if kind == "topK":
        return output
    size = output.type.list_size
    numbers = output.values.slice(output.offset * size, len(output) * size)
    offsets = pa.array(range(0, (len(output) + 1) * size, size), pa.int32())
    missing = output.is_null()
    if kind == "array":
        element = pa.field("element", pa.float32(), nullable=False)
        return pa.ListArray.from_arrays(offsets, numbers, type=pa.list_(element), mask=missing)
    values = pa.ListArray.from_arrays(offsets, numbers.cast(pa.float64()), type=_VECTOR_VALUES.type)
    count = len(output)
    dense = pa.repeat(pa.scalar(_DENSE, pa.int8()), count)
    parts = [dense, *(pa.nulls(count, field.type) for field in _VECTOR_FIELDS[1:3]), values]
    return pa.StructArray.from_arrays(parts, fields=_VECTOR_FIELDS, mask=missing)


def _invalid_row(task: Task, rows: pa.RecordBatch, reasons: pa.Array, first_row: int) -> SparkDLError:
    row = next(index for index, reason in enumerate(reasons) if reason.is_valid)
    name = _name(task, rows.slice(row, 1)) or _place(first_row + row)
    return SparkDLError(
        f"Cannot use the picture {name}: {reasons[row].as_py()}. "
        'Set handleInvalid to "keep" or "skip" to go on without it.',
        "InvalidRow",
    )


def _name(task: Task, row: pa.RecordBatch) -> str | None:
    names = [row.column(column)[0].as_py() for column in task.name_columns]
    picture = row.column(task.column)
    if pa.types.is_struct(picture.type) and picture[0].is_valid:
        names.append(picture.field("origin")[0].as_py())
    return next((name for name in names if name), None)


def _place(row: int) -> str:
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    return f"in partition {context.partitionId()}, row {row}"
