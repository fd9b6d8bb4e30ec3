"""One partition in a worker: rows to inputs, results to columns, a reason for each row without a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from sparkdl import _columns, _engine
from sparkdl.exceptions import SparkDLError

MAX_NUMBERS = 1 << 27
"""Of one output batch: 1 GiB of doubles, well below the 2 GiB of Arrow's offsets."""

_MOST_BYTES = 64 << 20
"""Of rows that are copied to go through a model together."""


@dataclass(frozen=True)
class Piece:
    """Rows that go through the model together."""

    rows: pa.RecordBatch
    inputs: list[pa.Array]
    """One column per input of the model."""
    names: list[str | None] | None = None
    """What reasons begin with, where rows are known by something."""
    reasons: list[str | None] | None = None
    """Why a row has no input, where that is known before the model runs."""


class Source(Protocol):
    """Where a model's inputs come from."""

    def pieces(self, batches: Iterator[pa.RecordBatch], batch_size: int) -> Iterator[Piece]:
        """The rows of a partition in order, with their inputs."""


@dataclass(frozen=True)
class Columns:
    """Inputs that columns hold."""

    positions: tuple[int, ...]
    """In the order of the model's inputs."""

    def pieces(self, batches: Iterator[pa.RecordBatch], batch_size: int) -> Iterator[Piece]:
        """The rows in order, `batch_size` at a time."""
        for rows in blocks(batches, batch_size, _MOST_BYTES):
            yield Piece(rows, [rows.column(position) for position in self.positions])


def blocks(
    batches: Iterator[pa.RecordBatch], size: int, most_bytes: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows in order, `size` at a time, however Spark has cut them; the last ones may be fewer.

    Rows of several batches are joined by a copy, of `most_bytes` at most: fewer than `size` then.
    """
    held: list[pa.RecordBatch] = []
    missing = size
    for batch in batches:
        start = 0
        if held and most_bytes and sum(rows.nbytes for rows in held) + batch.nbytes > most_bytes:
            yield _joined(held)
            held, missing = [], size
        while batch.num_rows - start >= missing:
            yield _joined([*held, batch.slice(start, missing)])
            start += missing
            held, missing = [], size
        if start < batch.num_rows:
            held.append(batch.slice(start))
            missing -= batch.num_rows - start
    if held:
        yield _joined(held)


def numbered(columns: list[pa.Array]) -> pa.RecordBatch:
    """The columns as a batch; Spark and the core read them by position."""
    return pa.RecordBatch.from_arrays(columns, [f"_{index}" for index in range(len(columns))])


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    columns = zip(*(batch.columns for batch in batches), strict=True)
    return pa.RecordBatch.from_arrays([pa.concat_arrays(parts) for parts in columns], batches[0].schema.names)


@dataclass(frozen=True)
class Invalid:
    """What becomes of rows without a result."""

    handling: str
    """`keep`, `skip` or `error`."""
    with_reason: bool
    what: str
    """What the model takes: `picture` or `row`."""
    name_columns: tuple[int, ...]
    """Positions of the columns that may name a row, as text or as an image's origin: the first that does."""


@dataclass(frozen=True)
class Task:
    """What a worker needs to know; small, because it travels with every task."""

    model: _engine.Opening
    source: Source
    batch_size: int
    outputs: tuple[str, ...]
    """What each output becomes: `vector`, `array`, `image`, or `same`."""
    invalid: Invalid


def run(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs one partition: appends the outputs, and the reason where asked, to every row."""
    return with_condition(_run(task, batches))


def with_condition(results: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same, with errors that say their condition."""
    try:
        yield from results
    except SparkDLError as error:
        # Spark hands only the text to the driver, so the condition goes with it.
        raise type(error)(f"[{error.getCondition()}] {error}", error.kind) from None


def _run(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    model = None
    row = 0
    for piece in task.source.pieces(batches, task.batch_size):
        model = model or _engine.open_model(task.model)
        result = model(numbered(piece.inputs))
        yield _appended(task, piece, result, row)
        row += piece.rows.num_rows


def _appended(task: Task, piece: Piece, result: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
    *outputs, reasons = result.columns
    reasons = _reasons(piece, reasons)
    if task.invalid.handling == "error" and reasons.null_count < len(reasons):
        raise _invalid_row(task, piece, reasons, first_row)
    named = zip(task.outputs, outputs, strict=True)
    columns = [*piece.rows.columns, *(_columns.column(kind, output, piece.names) for kind, output in named)]
    if task.invalid.with_reason:
        columns.append(reasons)
    done = numbered(columns)
    return done.filter(reasons.is_null()) if task.invalid.handling == "skip" else done


def _reasons(piece: Piece, found: pa.Array) -> pa.Array:
    """Reasons known before the model ran take the place of its own, and names come before both."""
    known = piece.reasons or [None] * len(found)
    names = piece.names or [None] * len(found)
    if found.null_count == len(found) or (piece.names is None and piece.reasons is None):
        return found
    reasons = [before or after for before, after in zip(known, found.to_pylist(), strict=True)]
    named = [
        f"{name}: {reason}" if name and reason else reason
        for name, reason in zip(names, reasons, strict=True)
    ]
    return pa.array(named, pa.string())


def _invalid_row(task: Task, piece: Piece, reasons: pa.Array, first_row: int) -> SparkDLError:
    row = next(index for index, reason in enumerate(reasons) if reason.is_valid)
    reason = reasons[row].as_py()
    if piece.names is None or not piece.names[row]:
        name = _name(task, piece.rows.slice(row, 1)) or _place(first_row + row)
        reason = f"{name}: {reason}"
    return SparkDLError(
        f"Cannot use the {task.invalid.what} {reason}. "
        'Set handleInvalid to "keep" or "skip" to go on without it.',
        "InvalidRow",
    )


def _name(task: Task, row: pa.RecordBatch) -> str | None:
    for position in task.invalid.name_columns:
        value = row.column(position)[0].as_py()
        name = value["origin"] if isinstance(value, dict) else value
        if name:
            return str(name)
    return None


def _place(row: int) -> str:
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    return f"in partition {context.partitionId()}, row {row}"
