"""Blocks of rows in a worker, where rows do not stay rows: what graphs give for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from sparkdl import _columns, _engine
from sparkdl._batches import blocks, numbered, with_condition


@dataclass(frozen=True)
class Task:
    """What a worker needs to know; small, because it travels with every task."""

    model: _engine.Opening
    keys: int
    """Columns before the inputs; where there are some, one more after them says where a group begins."""
    inputs: int
    batch_size: int
    outputs: tuple[str, ...]
    """What each output becomes: `vector` or `same`."""


def trimmed(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What the graph gives for each block."""
    return with_condition(_trimmed(task, batches))


def reduced(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each group, or the partition where there are no keys, as one row: keys, and what it is reduced to."""
    return with_condition(_reduced(task, batches))


def _trimmed(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    model = None
    for block in blocks(batches, task.batch_size):
        model = model or _engine.open_model(task.model)
        yield numbered(_outputs(task, model(numbered(block.columns))))


def _reduced(task: Task, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    reducer = None
    for block in blocks(batches, task.batch_size):
        reducer = reducer or _Reducer(task)
        yield from reducer.take(block)
    if reducer is not None:
        yield reducer.end()


class _Reducer:
    """Rows to one per group, in the order of the groups."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._model = _engine.open_model(task.model)
        self._key: list[pa.Array] | None = None
        """Of the group that may go on with the next row."""
        self._partials: list[pa.RecordBatch] = []
        """What its blocks were reduced to, one row each."""

    def take(self, block: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Gives the groups that end in this block."""
        keys, inputs = self._task.keys, self._task.inputs
        columns = block.columns[keys : keys + inputs]
        starts = block.column(keys + inputs) if keys else pa.array([False] * block.num_rows)
        firsts = [row for row, begins in enumerate(starts.to_pylist()) if begins or row == 0]
        found = self._model(numbered([*columns, starts]))
        goes_on = self._key is not None and not starts[0].as_py()
        begun = 0
        if goes_on:
            self._add(found.slice(0, 1))
            begun = 1
        if begun == found.num_rows:
            return
        if self._key is not None:
            yield self.end()
        last = found.num_rows - 1
        if begun < last:
            ended = found.slice(begun, last - begun)
            rows = pa.array(firsts[begun:last], pa.int64())
            yield numbered(
                [*(column.take(rows) for column in block.columns[:keys]), *_outputs(self._task, ended)]
            )
        self._key = [column.slice(firsts[last], 1) for column in block.columns[:keys]]
        self._partials = [found.slice(last, 1)]

    def end(self) -> pa.RecordBatch:
        """The group that does not go on."""
        self._compact()
        return numbered([*(self._key or []), *_outputs(self._task, self._partials[0])])

    def _add(self, partial: pa.RecordBatch) -> None:
        self._partials.append(partial)
        if len(self._partials) >= max(2, self._task.batch_size):
            self._compact()

    def _compact(self) -> None:
        if len(self._partials) < 2:
            return
        rows = pa.Table.from_batches(self._partials).combine_chunks().to_batches()[0]
        # Where a block left nothing, there is nothing to add.
        some = rows.filter(rows.column(rows.num_columns - 1).is_null())
        if some.num_rows > 1:
            whole = pa.array([False] * some.num_rows)
            some = self._model(numbered([*some.columns[:-1], whole]))
        self._partials = [some if some.num_rows else rows.slice(0, 1)]


def _outputs(task: Task, found: pa.RecordBatch) -> list[pa.Array]:
    """The columns of a result; the last holds reasons."""
    outputs = zip(task.outputs, found.columns[:-1], strict=True)
    return [_columns.column(kind, output, None) for kind, output in outputs]
