"""Pictures by a function of the caller's, in a worker: arrays into the model's input."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkdl._batches import Piece
from sparkdl._files import MAX_FILE, Unreadable, gathered
from sparkdl._prefetch import Cancelled, Prefetch, Share
from sparkdl.exceptions import SparkDLValueError

Pixels = npt.NDArray[np.float32]

_AHEAD = 64
_HELD = 256 << 20
_PIECE = 128 << 20


@dataclass(frozen=True)
class Loaded:
    """A model's input: the arrays that a function makes of the URIs in a column."""

    column: int
    load: Callable[[str], Any]
    shape: tuple[int | None, ...]
    """What the model takes: height, width, channels, None for any size."""

    def pieces(self, batches: Iterator[pa.RecordBatch], batch_size: int) -> Iterator[Piece]:
        """The rows in order, with their pictures. The function need not be safe for threads: one calls it."""
        with Prefetch(self._loaded, 1, _AHEAD, _HELD) as prefetch:
            for batch in batches:
                uris = batch.column(self.column).to_pylist()
                for start, found in gathered(prefetch.results(uris), batch_size, _PIECE):
                    end = start + len(found)
                    pictures = [None if isinstance(one, Unreadable) else one for one in found]
                    reasons = [str(one) if isinstance(one, Unreadable) else None for one in found]
                    rows = batch.slice(start, len(found))
                    yield Piece(rows, [nested(pictures)], uris[start:end], reasons)

    def _loaded(self, uri: str | None, share: Share) -> Pixels | Unreadable:
        if uri is None:
            return Unreadable("null")
        try:
            picture = self._checked(self.load(uri))
            share.set(picture.nbytes)
            return picture
        except Unreadable as reason:
            return reason
        except Cancelled:
            raise
        except Exception as error:  # whatever a user's function may raise
            return Unreadable(f"imageLoader raised {type(error).__name__}: {error}")

    def _checked(self, value: Any) -> Pixels:
        if value is None:
            raise Unreadable("imageLoader gave None")
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise Unreadable(f"imageLoader gave {type(value).__name__}, not an array of numbers")
        shape = array.shape[1:] if array.ndim == 4 and array.shape[0] == 1 else array.shape
        sides = zip(shape, self.shape, strict=False)
        if len(shape) != 3 or 0 in shape or any(wanted not in (None, side) for side, wanted in sides):
            needed = ", ".join("any" if side is None else str(side) for side in self.shape)
            raise Unreadable(
                f"imageLoader gave the shape {list(array.shape)}, but the model takes [{needed}]"
            )
        if array.size > MAX_FILE // 4:
            raise Unreadable(f"imageLoader gave more than {MAX_FILE // 4} numbers")
        return np.ascontiguousarray(array.reshape(shape), np.float32)


def nested(pictures: list[Pixels | None]) -> pa.Array:
    """Pictures as nested lists of rows, pixels and channels; null where there is none."""
    present = [picture for picture in pictures if picture is not None]
    shapes = np.array([picture.shape for picture in present], np.int64).reshape(-1, 3)
    heights, widths, channels = shapes[:, 0], shapes[:, 1], shapes[:, 2]
    values = pa.array(np.concatenate([np.zeros(0, np.float32), *(picture.ravel() for picture in present)]))
    for lengths in (np.repeat(channels, heights * widths), np.repeat(widths, heights)):
        values = pa.ListArray.from_arrays(_offsets(lengths), values)
    rows = iter(heights.tolist())
    each = np.array([0 if picture is None else next(rows) for picture in pictures], np.int64)
    missing = pa.array([picture is None for picture in pictures], pa.bool_())
    return pa.ListArray.from_arrays(_offsets(each), values, mask=missing)


def function_of(loader: Any) -> Callable[[str], Any]:
    """The function itself, where `loader` is its importable name."""
    if not isinstance(loader, str):
        function: Callable[[str], Any] = loader
        return function
    module, _, path = loader.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SparkDLValueError(
            f"The imageLoader {loader} cannot be imported: {error}. Put its module where the driver and the "
            "workers find it, or set the function itself."
        ) from error
    if not callable(found):
        raise SparkDLValueError(
            f"The imageLoader {loader} is no function but of type {type(found).__name__}."
        )
    loaded: Callable[[str], Any] = found
    return loaded


def name_of(loader: Any) -> str:
    """The importable name of a function, which is all that a saved stage holds of it."""
    if isinstance(loader, str):
        return loader
    module, path = getattr(loader, "__module__", None), getattr(loader, "__qualname__", None)
    if not module or not path:
        what = f"is an object of type {type(loader).__name__}"
    elif "<lambda>" in path or "<locals>" in path:
        what = f"is {path}, " + ("a lambda" if "<lambda>" in path else "defined inside of a function")
    elif module == "__main__":
        what = f"is {path} of the script or notebook itself"
    elif _is(loader, f"{module}:{path}"):
        return f"{module}:{path}"
    else:
        what = f"is not what {module}:{path} names"
    raise SparkDLValueError(
        f"This imageLoader cannot be saved: it {what}, and a saved stage holds its importable name alone "
        "(module:function). Define it at the top level of a module, and set that function or its name."
    )


def _is(loader: Any, name: str) -> bool:
    try:
        return function_of(name) is loader
    except SparkDLValueError:
        return False


def _offsets(lengths: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
