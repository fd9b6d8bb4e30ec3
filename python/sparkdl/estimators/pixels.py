"""Pictures as the rows of bytes that trials map: `[height, width, channels]`, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def packed(images: pa.StructArray, channels: int, order: str) -> list[bytes | None]:
    """Decoded pictures (uint8, BGR(A) or grey, of one size) in a model's 1 or 3 channels and their order."""
    _, heights, widths, depths, _, data = images.flatten()
    sizes = zip(heights.to_pylist(), widths.to_pylist(), depths.to_pylist(), data, strict=True)
    found = list[bytes | None]()
    for valid, (height, width, depth, values) in zip(images.is_valid(), sizes, strict=True):
        if not valid.as_py():
            found.append(None)
            continue
        picture = np.frombuffer(values.as_buffer(), np.uint8).reshape(height, width, depth)
        found.append(_converted(picture, channels, order).tobytes())
    return found


def _converted(picture: npt.NDArray[Any], channels: int, order: str) -> npt.NDArray[np.uint8]:
    if picture.shape[2] == 1:
        return np.repeat(picture, channels, 2)
    if channels == 1:
        # As the core and Pillow weigh them; the core does so before it resizes, which is one level's matter.
        blue, green, red = (picture[..., channel].astype(np.uint32) for channel in range(3))
        grey = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
        return grey.astype(np.uint8)[..., None]
    return picture[..., :3] if order == "BGR" else picture[..., 2::-1]


def loaded(pictures: pa.Array) -> list[bytes | None]:
    """Pictures as nested lists of float32, as a caller's function gave them."""
    found = list[bytes | None]()
    for index, valid in enumerate(pictures.is_valid()):
        if not valid.as_py():
            found.append(None)
            continue
        values: Any = pictures.slice(index, 1)
        while pa.types.is_list(values.type):
            values = values.flatten()
        found.append(values.to_numpy().astype("<f4").tobytes())
    return found
