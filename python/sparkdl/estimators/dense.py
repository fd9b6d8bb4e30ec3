"""Rows of numbers (plain, in arrays, in vectors) as bytes of the type and shape of a model's input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Reasons = list[str | None]


class _Unfit(Exception):
    """Why a row does not fit; its text is the reason."""


def rows(column: pa.Array, shape: tuple[int, ...], dtype: str) -> tuple[list[bytes | None], Reasons]:
    """The bytes of each row, and why a row has none."""
    try:
        values = _values(column, shape, dtype)
        size = values.nbytes // max(1, len(column))
        buffer = values.tobytes()
        return [buffer[n * size : (n + 1) * size] for n in range(len(column))], [None] * len(column)
    except _Unfit as reason:
        if len(column) == 1:
            return [None], [str(reason)]
    # One of the rows: each on its own.
    found, reasons = list[bytes | None](), Reasons()
    for index in range(len(column)):
        one, why = rows(column.slice(index, 1), shape, dtype)
        found += one
        reasons += why
    return found, reasons


def _values(column: pa.Array, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    if column.null_count:
        raise _Unfit("null")
    size = math.prod(shape)
    if pa.types.is_struct(column.type):
        return np.stack([_vector(value, size, dtype) for value in column])
    count, nested = len(column), _depth(column.type) > 1
    for side in shape if nested else (size,):
        if not pa.types.is_list(column.type):
            break
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        if (lengths != side).any():
            found = int(lengths[lengths != side][0])
            raise _Unfit(f"it has {found} numbers where the model takes {side}")
        column = column.flatten()
        if column.null_count:
            raise _Unfit("it has a null")
    numbers = column.to_numpy(zero_copy_only=False)
    converted: npt.NDArray[Any] = numbers.astype(dtype)
    if converted.dtype.kind in "iu" and (converted != numbers).any():
        raise _Unfit(f"it has a number that {dtype} does not hold")
    return converted.reshape(count, size)


def _depth(kind: pa.DataType) -> int:
    return 1 + _depth(kind.value_type) if pa.types.is_list(kind) else 0


def _vector(value: Any, size: int, dtype: str) -> npt.NDArray[Any]:
    """MLlib's vector, dense (type 1) or sparse, from its struct."""
    numbers = value["values"].values.to_numpy(zero_copy_only=False)
    if value["type"].as_py() == 1:
        found = numbers
    else:
        found = np.zeros(value["size"].as_py())
        found[value["indices"].values.to_numpy(zero_copy_only=False)] = numbers
    if len(found) != size:
        raise _Unfit(f"it has {len(found)} numbers where the model takes {size}")
    converted: npt.NDArray[Any] = found.astype(dtype)
    return converted
