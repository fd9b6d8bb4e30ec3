"""Networks with seeded weights under which activations neither vanish nor explode.

With Keras' own random weights the scores of two pictures differ by less than 1e-4, so a comparison on them
proves nothing. Here kernels are He-scaled by their true fan-in (depthwise: height x width), gamma, beta and
bias are random, and batch norm's statistics come from a training-mode pass over random pictures, momentum 0.
"""

from __future__ import annotations

import importlib
import io
import re
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from PIL import Image

import sparkdl
from sparkdl.models import NamedModel

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Outputs = dict[str, npt.NDArray[Any]]

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

CALIBRATED_ON = 16
"""Pictures: with few, a channel that they hardly excite gets a gain that blows up rounding errors."""

AT_ONCE = 1 << 28
"""Numbers, at most, in a layer's output while a network is calibrated: a large one sees fewer pictures."""

LEAST_VARIANCE = 0.5
"""Of a channel, beside the median: one that is nearly constant gets a gain that blows up rounding errors."""

RESIDUAL = re.compile(r"(_block\d+_3_(bn|conv)|project_bn)$", re.IGNORECASE)
"""The last layers of blocks of ResNets, MobileNets and EfficientNets, which are added to their input."""

NASNET = re.compile(r"(separable_conv_\d_bn|adjust_bn|normal_bn|reduction_bn)_")
"""The batch norms of its cells."""

COUNTED_BEFORE = 3
"""Layers without a name of their own that the process has built before: Keras counts on from there."""


def network(row: NamedModel, **arguments: Any) -> Any:
    """The row's network as Keras builds it, seeded by its name; its head gives logits."""
    import keras

    keras.utils.clear_session()
    for _ in range(COUNTED_BEFORE):
        keras.layers.Activation("relu")
        keras.layers.Add()
    model = _built(row, classifier_activation=None, **arguments)
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    blocks = sum(type(layer).__name__ == "Add" for layer in model.layers)
    for layer in model.layers:
        if layer.weights:
            values = [_weight(w.path.rsplit("/", 1)[-1], layer, w.shape, rng, blocks) for w in layer.weights]
            layer.set_weights(values)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization computes with a copy of its weights.
    calibrate(model, row, rng)
    return model


def _built(row: NamedModel, **arguments: Any) -> Any:
    import keras

    builder = getattr(keras.applications, row.keras_class)
    given = {"weights": None, "input_shape": (row.height, row.width, 3), **row.keras_arguments}
    return builder(**{**given, **arguments})


def feature_map(model: Any, row: NamedModel) -> Any:
    """The output of the row's feature layer in a model that `network` built."""
    counted = re.fullmatch(r"(activation|add)_(\d+)", row.feature_layer)
    name = f"{counted[1]}_{int(counted[2]) + COUNTED_BEFORE}" if counted else row.feature_layer
    return next(operation.output for operation in model.operations if operation.name == name)


def exported(row: NamedModel, pixels: Pixels, bundle: Path) -> Outputs:
    """Writes the row's seeded network as a bundle, by way of Keras.

    Gives what Keras makes of RGB pixels [n, h, w, 3].
    """
    model = network(row)
    sparkdl.export(row.name, bundle, weights=model)
    return keras_outputs(model, row, pixels)


def written(row: NamedModel, pixels: Pixels, folder: Path) -> Outputs:
    """Writes the row's seeded network into a folder in every form of file that there is.

    Gives what Keras makes of RGB pixels [n, h, w, 3].
    """
    from h5py import File
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    model = network(row)
    headless = _built(row, include_top=False)
    weighted = [[layer for layer in part.layers if layer.weights] for part in (headless, model)]
    for own, given in zip(*weighted, strict=False):
        own.set_weights(given.get_weights())
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    for name, part in {"": model, "_notop": headless}.items():
        part.save_weights(folder / f"new{name}.weights.h5")
        with File(folder / f"published{name}.h5", "w") as file:
            save_weights_to_hdf5_group(file, part)
    return keras_outputs(model, row, pixels)


def written_as_published(row: NamedModel, pixels: Pixels, file: Path) -> Outputs:
    """Writes seeded weights for the network that Keras builds for its published ones, in their layout.

    Gives what Keras makes of RGB pixels [n, h, w, 3].
    """
    import keras
    from h5py import File
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with (
        mock.patch("keras.src.utils.file_utils.get_file"),
        mock.patch.object(keras.Model, "load_weights"),
    ):
        model = network(row, weights="imagenet")
    with File(file, "w") as opened:
        save_weights_to_hdf5_group(opened, model)
    return keras_outputs(model, row, pixels)


def keras_outputs(model: Any, row: NamedModel, pixels: Pixels) -> Outputs:
    import keras

    outputs = keras.Model(model.input, [feature_map(model, row), model.outputs[0]])
    # One at a time, for memory; `predict` would trace and optimize a graph first.
    each = [outputs(preprocess(row, pixels[i : i + 1]), training=False) for i in range(len(pixels))]
    features, predictions = (np.concatenate(tensors) for tensors in zip(*each, strict=True))
    return {
        "avg": features.mean((1, 2)),
        "max": features.max((1, 2)),
        "none": features.reshape(len(pixels), -1),
        "predictions": predictions,
    }


def calibrate(model: Any, row: NamedModel, rng: np.random.Generator) -> None:
    """Gives every batch norm the statistics of what it sees, in full size: smaller pictures have others."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    height, width = (int(n) for n in model.inputs[0].shape[1:3])
    largest = max(int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    count = max(1, min(CALIBRATED_ON, AT_ONCE // largest))
    seen = np.stack([resized(photograph(rng, i), height, width) for i in range(count)])
    for layer in norms:
        layer.momentum = 0.0
    _train(model, preprocess(row, seen))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        variance = np.asarray(layer.moving_variance)
        layer.moving_variance.assign(np.maximum(variance, LEAST_VARIANCE * np.median(variance)))


def _train(model: Any, pictures: Floats) -> None:
    """A pass in which batch norms learn. Keras' own holds the output of every layer until the end."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]
    last = {id(tensor): node for node in nodes for tensor in node.input_tensors}
    values: dict[int, Any] = {id(model.inputs[0]): pictures}
    for node in nodes:
        arguments, choices = node.arguments.fill_in(values)
        if type(node.operation).__name__ == "BatchNormalization":
            choices["training"] = True
        values[id(node.outputs[0])] = node.operation(*arguments, **choices)
        for tensor in node.input_tensors:
            if last[id(tensor)] is node:
                values.pop(id(tensor), None)


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


def photograph(rng: np.random.Generator, number: int) -> Pixels:
    """A picture of an odd size, which depends on its number."""
    return picture(rng, 240 + 17 * (number % 8), 410 - 23 * (number % 8))


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Box-filtered, as the pictures of a comparison are: without it their noise is another."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def png(pixels: Pixels) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _weight(
    name: str, layer: Any, shape: tuple[int, ...], rng: np.random.Generator, blocks: int
) -> npt.NDArray[Any]:
    values = _plain_weight(name, layer, shape, rng)
    if name in ("gamma", "kernel") and RESIDUAL.search(layer.name):
        # The deeper, the more a rounding error grows, unless what all blocks add together is as large as what
        # they add it to. Keras' own two ways to compute ResNet50, eagerly and as a graph, differ by 4e-5
        # else, so by 4e-6.
        return values / np.float32(np.sqrt(max(1, blocks)))
    return values


def _plain_weight(
    name: str, layer: Any, shape: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[Any]:
    if name in ("kernel", "pointwise_kernel", "depthwise_kernel"):
        is_depthwise = name == "depthwise_kernel" or type(layer).__name__ == "DepthwiseConv2D"
        fan_in = np.prod(shape[:2]) if is_depthwise else np.prod(shape[:-1])
        if layer.name == "block1_conv1":  # VGG has no batch norm that would bring pixels down.
            fan_in *= 64**2
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
    if type(layer).__name__ == "Normalization":
        values = {"mean": IMAGENET_MEAN, "variance": IMAGENET_DEVIATION**2}
        return values[name].reshape(shape) if name in values else np.zeros(shape, np.int32)
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name == "beta" and (not getattr(layer, "scale", True) or NASNET.match(layer.name)):
        # InceptionV3: 94 layers with half their ReLUs open multiply a rounding error a hundredfold. The error
        # of merging batch norm is TensorFlow's own optimizer's too, to the bit. NASNetLarge has 264.
        return rng.normal(1.0, 0.2, shape).astype(np.float32)
    return rng.normal(0, 0.2, shape).astype(np.float32)
