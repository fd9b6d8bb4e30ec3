"""Models as functions of columns, in a worker: Arrow arrays in, one Arrow array out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyspark.sql import Row

from sparkdl import _columns, _engine
from sparkdl._batches import numbered, with_condition
from sparkdl.exceptions import SparkDLError

_log = logging.getLogger(__name__)

Arrays = tuple[pa.Array, ...]
Opened = Callable[[Arrays], pa.Array]


class Function(Protocol):
    """What is registered."""

    @property
    def arguments(self) -> int:
        """How many columns it takes."""

    def open(self) -> Opened:
        """Opens what it needs, once in a task."""


@dataclass(frozen=True)
class ModelFunction:
    """A model on columns; small, because it travels with every task."""

    model: _engine.Opening
    inputs: tuple[str, ...]
    """The names under which a single struct may hold them."""
    outputs: tuple[tuple[str, str], ...]
    """The name of each, and what it becomes, as in `_batches.Task`; several make a struct."""
    batch_size: int

    @property
    def arguments(self) -> int:
        """One column for each input."""
        return len(self.inputs)

    def open(self) -> Opened:
        """Opens the model."""
        model = _engine.open_model(self.model)

        def call(columns: Arrays) -> pa.Array:
            inputs = self._inputs(columns)
            rows = len(inputs[0])
            if any(pa.types.is_null(column.type) for column in inputs):
                return pa.nulls(rows)  # what a literal NULL is
            parts = [
                self._part(model, [column.slice(start, self.batch_size) for column in inputs])
                for start in range(0, max(rows, 1), self.batch_size)
            ]
            return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)

        return call

    def _inputs(self, columns: Arrays) -> list[pa.Array]:
        if len(columns) == len(self.inputs):
            return list(columns)
        if len(columns) == 1 and pa.types.is_struct(columns[0].type):
            kind = columns[0].type
            fields = {kind.field(index).name: index for index in range(kind.num_fields)}
            if all(name in fields for name in self.inputs):
                found = columns[0].flatten()
                return [found[fields[name]] for name in self.inputs]
        wanted = ", ".join(self.inputs)
        raise SparkDLError(
            f"The function takes {len(self.inputs)} columns ({wanted}), or one struct with fields of these "
            f"names, but was given {len(columns)}.",
            "InvalidBatch",
        )

    def _part(self, model: Callable[[pa.RecordBatch], pa.RecordBatch], columns: list[pa.Array]) -> pa.Array:
        *found, reasons = model(numbered(columns)).columns
        outputs = [
            _columns.column(kind, output, None) for (_, kind), output in zip(self.outputs, found, strict=True)
        ]
        if len(outputs) == 1:
            return outputs[0]
        names = [name for name, _ in self.outputs]
        return pa.StructArray.from_arrays(outputs, names, mask=reasons.is_valid())


@dataclass(frozen=True)
class Preprocessed:
    """Pictures that a function of the caller's reads from files, before they go into a model."""

    model: ModelFunction
    preprocessor: Callable[[str], Any]

    @property
    def arguments(self) -> int:
        """One column of pictures."""
        return 1

    def open(self) -> Opened:
        """Opens the model."""
        model = self.model.open()

        def call(columns: Arrays) -> pa.Array:
            with tempfile.TemporaryDirectory() as folder:
                pictures = [self._read(picture, Path(folder)) for picture in columns[0]]
            return model((pa.array(pictures, pa.list_(pa.float32())),))

        return call

    def _read(self, picture: pa.Scalar, folder: Path) -> Any:
        """What the caller's function makes of a picture; None where it cannot, and the log says why."""
        if not picture.is_valid:
            return None
        file = folder / "picture.png"
        try:
            if pa.types.is_struct(picture.type):
                from sparkdl.image.conversion import imageStructToPIL

                imageStructToPIL(Row(**picture.as_py())).save(file)
            else:
                file.write_bytes(picture.as_py())
            return np.asarray(self.preprocessor(str(file)), np.float32).ravel()
        except ImportError:
            raise  # it would make every row invalid
        except Exception as error:
            _log.warning("A picture is NULL, for the preprocessor gives %s: %s", type(error).__name__, error)
            return None


@dataclass(frozen=True)
class Pipeline:
    """Functions, each of what the one before it gives."""

    functions: tuple[Function, ...]

    @property
    def arguments(self) -> int:
        """As many as the first one takes."""
        return self.functions[0].arguments

    def open(self) -> Opened:
        """Opens all of them."""
        first, *others = [function.open() for function in self.functions]

        def call(columns: Arrays) -> pa.Array:
            found = first(columns)
            for function in others:
                found = function((found,))
            return found

        return call


def over_batches(
    function: Function,
) -> Callable[[Iterator[pa.Array | Arrays]], Iterator[pa.Array]]:
    """The function over all batches of a task."""

    def run(batches: Iterator[pa.Array | Arrays]) -> Iterator[pa.Array]:
        opened = None
        for batch in batches:
            opened = opened or function.open()
            yield opened(batch if isinstance(batch, tuple) else (batch,))

    return lambda batches: with_condition(run(batches))
