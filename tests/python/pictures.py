"""Seeded pictures, and what the tiny network says of them, computed with Pillow and TensorFlow alone."""

import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "bundles" / "tiny.sparkdl"
HEIGHT, WIDTH = 32, 24


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 RGB: a few seeded blobs of colour, so that resizing has something to average."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def image_struct(pixels: np.ndarray, origin: str = "") -> tuple[str, int, int, int, int, bytes]:
    """The picture as Spark's image struct: BGR, row by row, mode 16."""
    height, width, _ = pixels.shape
    return origin, height, width, 3, 16, np.ascontiguousarray(pixels[:, :, ::-1]).tobytes()


def huge_header() -> bytes:
    """A PNG that says it is 60,000 by 60,000 and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def reference(pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What the tiny network says: `features`, `featuresAvg`, `featuresMax`, `predictions`."""
    sized = [Image.fromarray(p).resize((WIDTH, HEIGHT), Image.Resampling.BOX) for p in pictures]
    batch = np.stack([np.asarray(p, np.float32) / 127.5 - 1 for p in sized])
    return {name: output.numpy() for name, output in zip(_OUTPUTS, _network()(batch), strict=True)}


_OUTPUTS = {
    "features": "features:0",
    "featuresAvg": "features_avg:0",
    "featuresMax": "features_max:0",
    "predictions": "predictions:0",
}


@cache
def _network() -> Any:
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    with zipfile.ZipFile(TINY) as bundle:
        graph.ParseFromString(bundle.read("graph.pb"))
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    fetches = [wrapped.graph.get_tensor_by_name(name) for name in _OUTPUTS.values()]
    pruned = wrapped.prune(wrapped.graph.get_tensor_by_name("image:0"), fetches)
    return lambda batch: pruned(tf.constant(batch))
