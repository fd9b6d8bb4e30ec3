"""Networks with seeded weights under which activations neither vanish nor explode.

With Keras' own random weights the scores of two pictures differ by less than 1e-4, so a comparison on them
proves nothing. Here kernels are He-scaled by their true fan-in (depthwise: height x width), gamma, beta and
bias are random, and batch norm's statistics come from training-mode passes over random pictures, momentum 0.
"""

from __future__ import annotations

import importlib
import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sparkdl.models import NamedModel

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def network(row: NamedModel, **arguments: Any) -> Any:
    """The row's network as Keras builds it, seeded by its name; its head gives logits."""
    builder = getattr(importlib.import_module(row.keras_module), row.keras_class)
    model = builder(weights=None, classifier_activation=None, **arguments)
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(
                [_weight(w.path.rsplit("/", 1)[-1], layer, w.shape, rng) for w in layer.weights]
            )
    calibrate(model, row, rng)
    return model


def calibrate(model: Any, row: NamedModel, rng: np.random.Generator) -> None:
    """Gives every batch norm the statistics of what it sees."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in norms]
    height, width = (int(n) for n in model.inputs[0].shape[1:3])
    for layer in norms:
        layer.momentum = 0.0
    for _ in range(2 if norms else 0):
        model(preprocess(row, np.stack([picture(rng, height, width) for _ in range(8)])), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def preprocess(row: NamedModel, pixels: Pixels) -> Floats:
    """What Keras' own preprocessing makes of RGB pixels [n, h, w, 3]."""
    function = importlib.import_module(row.keras_module).preprocess_input
    return np.asarray(function(pixels.astype(np.float32)), np.float32)


def picture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """RGB: a colour field with structure at several scales, and a little noise."""
    total = np.zeros((height, width, 3), np.float32)
    for cells in (2, 5, 16, 48):
        coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        total += np.asarray(
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32
        )
    total = total / 4 + rng.normal(0, 6, total.shape).astype(np.float32)
    low, high = total.min(), total.max()
    return ((total - low) * (255 / (high - low))).astype(np.uint8)


def png(pixels: Pixels) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _weight(name: str, layer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
    if name in ("kernel", "pointwise_kernel", "depthwise_kernel"):
        is_depthwise = name == "depthwise_kernel" or type(layer).__name__ == "DepthwiseConv2D"
        fan_in = np.prod(shape[:2]) if is_depthwise else np.prod(shape[:-1])
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
    if type(layer).__name__ == "Normalization":
        values = {"mean": IMAGENET_MEAN, "variance": IMAGENET_DEVIATION**2}
        return values[name].reshape(shape) if name in values else np.zeros(shape, np.int32)
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.normal(0, 0.2, shape).astype(np.float32)
