"""A model's results as columns that Spark reads: vectors, arrays, images."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sparkdl.image.conversion import swapped
from sparkdl.image.schema import imageTypes

_VECTOR_VALUES = pa.field("values", pa.list_(pa.field("element", pa.float64(), nullable=False)))
_VECTOR_FIELDS = [
    pa.field("type", pa.int8(), nullable=False),
    pa.field("size", pa.int32()),
    pa.field("indices", pa.list_(pa.field("element", pa.int32(), nullable=False))),
    _VECTOR_VALUES,
]
_DENSE = 1  # as VectorUDT spells it
_IMAGE_FIELDS = [
    pa.field("origin", pa.string()),
    *(pa.field(name, pa.int32()) for name in ("height", "width", "nChannels", "mode")),
    pa.field("data", pa.binary()),
]
_MODES = {kind.nChannels: kind.ord for kind in imageTypes if kind.dtype == "float32"}


def column(kind: str, output: pa.Array, origins: list[str | None] | None) -> pa.Array:
    """An output as a column: `vector` and `array` are flattened, `image` is Spark's struct with its origin,
    `same` is what the core gives.
    """
    if kind == "same":
        return output
    if kind == "image":
        return _images(output, origins or [None] * len(output))
    offsets, numbers = _flat(output)
    missing = output.is_null()
    if kind == "array":
        element = pa.field("element", pa.float32(), nullable=False)
        floats = numbers.cast(pa.float32())
        return pa.ListArray.from_arrays(offsets, floats, type=pa.list_(element), mask=missing)
    values = pa.ListArray.from_arrays(offsets, numbers.cast(pa.float64()), type=_VECTOR_VALUES.type)
    count = len(output)
    dense = pa.repeat(pa.scalar(_DENSE, pa.int8()), count)
    parts = [dense, *(pa.nulls(count, field.type) for field in _VECTOR_FIELDS[1:3]), values]
    return pa.StructArray.from_arrays(parts, fields=_VECTOR_FIELDS, mask=missing)


def _flat(output: pa.Array) -> tuple[pa.Array, pa.Array]:
    """All numbers of a column one after the other, and where each row's begin."""
    kind = output.type
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        numbers = output.values.slice(output.offset * size, len(output) * size)
        return pa.array(range(0, (len(output) + 1) * size, size), pa.int32()), numbers
    if not pa.types.is_list(kind):
        return pa.array(range(len(output) + 1), pa.int32()), output.fill_null(0)
    offsets, values = output.offsets, output.values
    while pa.types.is_list(values.type):
        offsets, values = values.offsets.take(offsets), values.values
    return offsets, values


def _images(output: pa.Array, origins: list[str | None]) -> pa.Array:
    if not pa.types.is_struct(output.type):
        return pa.array([_image(*row) for row in zip(output, origins, strict=True)], pa.struct(_IMAGE_FIELDS))
    _, *fields = output.flatten()
    columns = [pa.array(origins, pa.string()), *fields]
    return pa.StructArray.from_arrays(columns, fields=_IMAGE_FIELDS, mask=output.is_null())


def _image(picture: pa.Scalar, origin: str | None) -> dict[str, object] | None:
    """Spark's struct of one RGB(A) or grey picture in nested lists."""
    if not picture.is_valid:
        return None
    rows = picture.values
    pixels = rows.flatten()
    shape = len(rows), len(pixels) // len(rows), len(pixels[0])
    numbers = np.asarray(pixels.flatten(), np.dtype("<f4")).reshape(shape)
    height, width, channels = shape
    mode, data = _MODES[channels], swapped(numbers).tobytes()
    sizes = {"height": height, "width": width, "nChannels": channels, "mode": mode}
    return {"origin": origin, **sizes, "data": data}
