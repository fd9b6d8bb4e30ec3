"""Random small Keras models, read without Keras: every layer that is built, with arguments of its own.

Each case is a seed: it builds a model around one layer, in one of several structures, and compares what the
graph gives with what Keras gives. A failure names the seed; `build(layer, seed)` makes the model again.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkdl import _engine

keras = pytest.importorskip("keras")
L = keras.layers

pytestmark = pytest.mark.once

SEEDS = range(5)
ROWS = 3
Rng = np.random.Generator
Maker = Callable[[Rng], Any]

ACTIVATIONS = (
    "celu",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "tanh",
    "tanh_shrink",
)


def pick(rng: Rng, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def whole(rng: Rng, least: int, most: int) -> int:
    return int(rng.integers(least, most + 1))


def conv(rng: Rng, count: int, **more: Any) -> dict[str, Any]:
    """Arguments of a convolution over `count` dimensions; strides and dilation exclude each other."""
    stride, dilation = pick(rng, (1, 1), (2, 1), (1, 2))
    kernel = [whole(rng, 1, 3) for _ in range(count)]
    return {
        "kernel_size": kernel if count > 1 else kernel[0],
        "strides": stride,
        "dilation_rate": dilation,
        "padding": pick(rng, "same", "valid"),
        "use_bias": bool(rng.integers(2)),
        "activation": pick(rng, None, "relu", "tanh", "gelu"),
        **first(rng),
        **more,
    }


def transposed(rng: Rng, count: int) -> dict[str, Any]:
    """Arguments of a transposed convolution; more than the stride must be added to nothing."""
    stride, dilation, added = pick(rng, (1, 1, None), (2, 1, None), (2, 1, 1), (1, 2, None))
    return conv(rng, count) | {"strides": stride, "dilation_rate": dilation, "output_padding": added}


def pool(rng: Rng, count: int) -> dict[str, Any]:
    sizes = [whole(rng, 1, 3) for _ in range(count)]
    return {
        "pool_size": sizes if count > 1 else sizes[0],
        "strides": pick(rng, None, 1, 2),
        "padding": pick(rng, "same", "valid"),
        **first(rng),
    }


def first(rng: Rng) -> dict[str, Any]:
    return {"data_format": pick(rng, "channels_last", "channels_last", "channels_first")}


def recurrent(rng: Rng, **more: Any) -> dict[str, Any]:
    return {
        "unroll": bool(rng.integers(2)),
        "dropout": pick(rng, 0.0, 0.3),
        "units": whole(rng, 2, 4),
        "activation": pick(rng, "tanh", "relu", "sigmoid"),
        "use_bias": bool(rng.integers(2)),
        "return_sequences": bool(rng.integers(2)),
        "go_backwards": bool(rng.integers(2)),
        **more,
    }


def gated(rng: Rng, **more: Any) -> dict[str, Any]:
    return recurrent(rng, recurrent_activation=pick(rng, "sigmoid", "hard_sigmoid"), **more)


def inner_model(rng: Rng) -> Any:
    return keras.Sequential([keras.Input((4,)), L.Dense(3), L.BatchNormalization(), L.Dense(2, "tanh")])


# What a layer is called with, without the batch dimension.
SHAPES = {"picture": (9, 8, 4), "sequence": (7, 4), "volume": (5, 6, 4, 4), "vector": (6,), "tokens": (7,)}

LAYERS: dict[str, tuple[str, Maker]] = {
    "Activation": ("picture", lambda r: L.Activation(pick(r, *ACTIVATIONS))),
    "ReLU": (
        "picture",
        lambda r: L.ReLU(pick(r, None, 1.5, 6.0), pick(r, 0.0, 0.25), pick(r, 0.0, 0.0, 0.5)),
    ),
    "LeakyReLU": ("vector", lambda r: L.LeakyReLU(pick(r, 0.1, 0.4))),
    "ELU": ("vector", lambda r: L.ELU(pick(r, 1.0, 0.5))),
    "PReLU": ("picture", lambda r: L.PReLU(shared_axes=pick(r, None, [1, 2]))),
    "Softmax": ("picture", lambda r: L.Softmax(axis=pick(r, -1, 1, 2))),
    "Dense": ("sequence", lambda r: L.Dense(whole(r, 1, 5), pick(r, None, "relu"), bool(r.integers(2)))),
    "EinsumDense": (
        "sequence",
        lambda r: pick(
            r,
            L.EinsumDense("abc,cd->abd", output_shape=(7, 5), bias_axes="d"),
            L.EinsumDense("abc,cde->abde", output_shape=(7, 2, 3), bias_axes="de", activation="relu"),
            L.EinsumDense("...x,xy->...y", output_shape=3, bias_axes="y"),
            L.EinsumDense("abc,bcd->ad", output_shape=3),
            L.EinsumDense("abc,bc->ab", output_shape=7, bias_axes="b"),
        ),
    ),
    "Conv1D": (
        "sequence",
        lambda r: L.Conv1D(
            4, **conv(r, 1, padding=pick(r, "same", "valid", "causal"), groups=pick(r, 1, 2, 4))
        ),
    ),
    "Conv2D": (
        "picture",
        lambda r: L.Conv2D(4, **conv(r, 2, groups=pick(r, 1, 2), data_format="channels_last")),
    ),
    # With a kernel of one column Keras computes something else than TensorFlow of the turned picture.
    "Conv2D channels_first": (
        "picture",
        lambda r: L.Conv2D(
            4, 3, strides=2, padding=pick(r, "same", "valid"), data_format="channels_first", activation="relu"
        ),
    ),
    "Conv3D": ("volume", lambda r: L.Conv3D(3, **conv(r, 3))),
    "Conv1DTranspose": ("sequence", lambda r: L.Conv1DTranspose(3, **transposed(r, 1))),
    "Conv2DTranspose": ("picture", lambda r: L.Conv2DTranspose(3, **transposed(r, 2))),
    "Conv3DTranspose": ("volume", lambda r: L.Conv3DTranspose(2, **transposed(r, 3))),
    "DepthwiseConv1D": (
        "sequence",
        lambda r: L.DepthwiseConv1D(**conv(r, 1, depth_multiplier=pick(r, 1, 2))),
    ),
    "DepthwiseConv2D": ("picture", lambda r: L.DepthwiseConv2D(**conv(r, 2, depth_multiplier=pick(r, 1, 2)))),
    "SeparableConv1D": ("sequence", lambda r: L.SeparableConv1D(3, **conv(r, 1, depth_multiplier=2))),
    "SeparableConv2D": ("picture", lambda r: L.SeparableConv2D(3, **conv(r, 2, depth_multiplier=2))),
    "MaxPooling1D": ("sequence", lambda r: L.MaxPooling1D(**pool(r, 1))),
    "MaxPooling2D": ("picture", lambda r: L.MaxPooling2D(**pool(r, 2))),
    "MaxPooling3D": ("volume", lambda r: L.MaxPooling3D(**pool(r, 3))),
    "AveragePooling1D": ("sequence", lambda r: L.AveragePooling1D(**pool(r, 1))),
    "AveragePooling2D": ("picture", lambda r: L.AveragePooling2D(**pool(r, 2))),
    "AveragePooling3D": ("volume", lambda r: L.AveragePooling3D(**pool(r, 3))),
    "GlobalAveragePooling1D": (
        "sequence",
        lambda r: L.GlobalAveragePooling1D(keepdims=bool(r.integers(2)), **first(r)),
    ),
    "GlobalAveragePooling2D": (
        "picture",
        lambda r: L.GlobalAveragePooling2D(keepdims=bool(r.integers(2)), **first(r)),
    ),
    "GlobalAveragePooling3D": (
        "volume",
        lambda r: L.GlobalAveragePooling3D(keepdims=bool(r.integers(2)), **first(r)),
    ),
    "GlobalMaxPooling1D": (
        "sequence",
        lambda r: L.GlobalMaxPooling1D(keepdims=bool(r.integers(2)), **first(r)),
    ),
    "GlobalMaxPooling2D": (
        "picture",
        lambda r: L.GlobalMaxPooling2D(keepdims=bool(r.integers(2)), **first(r)),
    ),
    "GlobalMaxPooling3D": (
        "volume",
        lambda r: L.GlobalMaxPooling3D(keepdims=bool(r.integers(2)), **first(r)),
    ),
    "ZeroPadding1D": ("sequence", lambda r: L.ZeroPadding1D(pick(r, 2, (1, 3)), **first(r))),
    "ZeroPadding2D": ("picture", lambda r: L.ZeroPadding2D(pick(r, 1, (1, 2), ((0, 1), (2, 0))), **first(r))),
    "ZeroPadding3D": ("volume", lambda r: L.ZeroPadding3D(pick(r, 1, ((0, 1), (2, 0), (1, 1))), **first(r))),
    "Cropping1D": ("sequence", lambda r: L.Cropping1D(pick(r, 1, (1, 2)))),
    "Cropping2D": ("picture", lambda r: L.Cropping2D(pick(r, 1, ((0, 1), (2, 0))), **first(r))),
    "Cropping3D": ("volume", lambda r: L.Cropping3D(((0, 1), (2, 0), (1, pick(r, 0, 1))), **first(r))),
    "UpSampling1D": ("sequence", lambda r: L.UpSampling1D(whole(r, 2, 3))),
    "UpSampling2D": (
        "picture",
        lambda r: L.UpSampling2D(
            (whole(r, 1, 3), 2), interpolation=pick(r, "nearest", "bilinear", "bicubic"), **first(r)
        ),
    ),
    "UpSampling3D": ("volume", lambda r: L.UpSampling3D((2, whole(r, 1, 3), 1), **first(r))),
    "Flatten": ("picture", lambda r: L.Flatten(**first(r))),
    "Reshape": ("sequence", lambda r: L.Reshape(pick(r, (4, 7), (2, -1), (28,), (2, 2, 7)))),
    "Permute": ("picture", lambda r: L.Permute(pick(r, (2, 1, 3), (3, 1, 2), (1, 3, 2)))),
    "RepeatVector": ("vector", lambda r: L.RepeatVector(whole(r, 2, 4))),
    "BatchNormalization": (
        "picture",
        lambda r: L.BatchNormalization(
            axis=pick(r, -1, 1),
            epsilon=pick(r, 1e-2, 0.1),
            center=bool(r.integers(2)),
            scale=bool(r.integers(2)),
        ),
    ),
    "LayerNormalization": (
        "picture",
        lambda r: L.LayerNormalization(
            axis=pick(r, -1, [2, 3], 1),
            epsilon=pick(r, 1e-2, 0.1),
            center=bool(r.integers(2)),
            scale=bool(r.integers(2)),
        ),
    ),
    "GroupNormalization": (
        "picture",
        lambda r: L.GroupNormalization(
            pick(r, 1, 2, 4, -1),
            axis=pick(r, -1, -1, 2),
            epsilon=pick(r, 1e-2, 0.1),
            center=bool(r.integers(2)),
            scale=bool(r.integers(2)),
        ),
    ),
    "RMSNormalization": (
        "sequence",
        lambda r: L.RMSNormalization(axis=pick(r, -1, [1, 2]), epsilon=pick(r, 1e-2, 0.1)),
    ),
    "UnitNormalization": ("picture", lambda r: L.UnitNormalization(axis=pick(r, -1, 1, [1, 2]))),
    "Normalization": (
        "sequence",
        lambda r: pick(
            r,
            L.Normalization(
                axis=pick(r, -1, None),
                mean=pick(r, 0.5, 1.0),
                variance=pick(r, 2.0, 0.25),
                invert=bool(r.integers(2)),
            ),
            L.Normalization(mean=[0.5, 1.0, -1.0, 0.0], variance=[2.0, 0.25, 1.0, 3.0]),
            L.Normalization(axis=pick(r, -1, None), invert=bool(r.integers(2))),
        ),
    ),
    "Rescaling": ("picture", lambda r: L.Rescaling(pick(r, 2.5, [1.0, 2.0, 3.0, 0.5]), pick(r, 0.0, -1.0))),
    "Resizing": (
        "picture",
        lambda r: L.Resizing(
            whole(r, 3, 14),
            7,
            pick(r, "nearest", "bilinear", "bicubic"),
            antialias=bool(r.integers(2)),
            **pick(
                r,
                {},
                {"crop_to_aspect_ratio": True},
                {"pad_to_aspect_ratio": True, "fill_value": 0.5},
            ),
        ),
    ),
    "CenterCrop": ("picture", lambda r: L.CenterCrop(whole(r, 3, 12), pick(r, 5, 9))),
    "Identity": ("vector", lambda r: L.Identity()),
    "ActivityRegularization": ("vector", lambda r: L.ActivityRegularization(0.1)),
    "Dropout": ("vector", lambda r: L.Dropout(0.5, seed=1)),
    "AlphaDropout": ("vector", lambda r: L.AlphaDropout(0.5, seed=1)),
    "GaussianDropout": ("vector", lambda r: L.GaussianDropout(0.5, seed=1)),
    "GaussianNoise": ("vector", lambda r: L.GaussianNoise(0.5, seed=1)),
    "SpatialDropout1D": ("sequence", lambda r: L.SpatialDropout1D(0.5, seed=1)),
    "SpatialDropout2D": ("picture", lambda r: L.SpatialDropout2D(0.5, seed=1)),
    "SpatialDropout3D": ("volume", lambda r: L.SpatialDropout3D(0.5, seed=1)),
    "Random…": (
        "picture",
        lambda r: pick(
            r,
            L.RandomFlip(),
            L.RandomRotation(0.2),
            L.RandomZoom(0.2),
            L.RandomTranslation(0.1, 0.2),
            L.RandomContrast(0.2),
            L.RandomBrightness(0.2),
            L.RandomColorDegeneration(0.3),
            L.RandomColorJitter(brightness_factor=0.1),
            L.RandomHue(0.2),
            L.RandomSaturation(0.3),
            L.RandomSharpness(0.3),
            L.RandomShear(0.1, 0.1),
        ),
    ),
    "Embedding": ("tokens", lambda r: L.Embedding(9, whole(r, 2, 5))),
    "LSTM": ("sequence", lambda r: L.LSTM(**gated(r))),
    "GRU": ("sequence", lambda r: L.GRU(**gated(r, reset_after=bool(r.integers(2))))),
    "SimpleRNN": ("sequence", lambda r: L.SimpleRNN(**recurrent(r))),
    "Bidirectional": (
        "sequence",
        lambda r: L.Bidirectional(
            pick(r, L.LSTM, L.GRU, L.SimpleRNN)(**recurrent(r, go_backwards=False)),
            merge_mode=pick(r, "concat", "sum", "mul", "ave"),
        ),
    ),
    "TimeDistributed": (
        "picture",
        lambda r: L.TimeDistributed(
            pick(r, L.Conv1D(3, 2), L.Dense(3), L.BatchNormalization(), L.GlobalMaxPooling1D(), L.LSTM(2))
        ),
    ),
    "SpectralNormalization": (
        "picture",
        lambda r: L.SpectralNormalization(
            pick(r, L.Conv2D(3, 2), L.Dense(3)), power_iterations=whole(r, 1, 3)
        ),
    ),
    "TimeDistributed model": ("sequence", lambda r: L.TimeDistributed(inner_model(r))),
}


def merged(rng: Rng) -> Any:
    """Sums, dot products, concatenations and attention of two inputs."""
    left, right = keras.Input((7, 4), name="left"), keras.Input((5, 4), name="right")
    third = keras.Input((5, 3), name="third")
    outputs = [
        L.Dot(axes=2, normalize=bool(rng.integers(2)))([left, right]),
        L.Dot(axes=(1, 2))([L.Permute((2, 1))(left), right]),
        L.Concatenate(axis=1)([left, right]),
        L.Concatenate()([right, third]),
        L.Attention(use_scale=bool(rng.integers(2)), score_mode=pick(rng, "dot", "concat"))(
            [left, right, right], use_causal_mask=bool(rng.integers(2))
        ),
        L.AdditiveAttention(use_scale=bool(rng.integers(2)), dropout=pick(rng, 0.0, 0.1))([left, right]),
        *L.Attention(dropout=pick(rng, 0.0, 0.1))([left, right], return_attention_scores=True),
        L.Dot(axes=1)([L.GlobalMaxPooling1D()(left), L.GlobalAveragePooling1D()(right)]),
    ]
    return keras.Model([left, right, third], outputs)


def attended(rng: Rng) -> Any:
    left, right = keras.Input((7, 4), name="left"), keras.Input((5, 4), name="right")
    heads = L.MultiHeadAttention(
        whole(rng, 1, 3),
        3,
        value_dim=pick(rng, None, 2),
        output_shape=pick(rng, None, 5),
        use_bias=bool(rng.integers(2)),
        dropout=pick(rng, 0.0, 0.1),
    )
    grouped = L.GroupQueryAttention(3, 4, pick(rng, 1, 2, 4), use_bias=bool(rng.integers(2)))
    own = L.MultiHeadAttention(2, 2)
    given = keras.Input((7, 5), dtype="bool", name="given")
    near = L.MultiHeadAttention(2, 3, sliding_window=pick(rng, None, 3))(left, right, attention_mask=given)
    causal = own(left, left, use_causal_mask=bool(rng.integers(2)), return_attention_scores=True)
    outputs = [heads(left, right, key=right), grouped(left, right), near, *causal]
    return keras.Model([left, right, given], outputs)


def masked(rng: Rng) -> Any:
    """Masks by value and by token, through layers that hand them on, to layers that heed them."""
    tokens, steps = keras.Input((7,), dtype="int32", name="tokens"), keras.Input((7, 4), name="steps")
    words = L.Embedding(9, 4, mask_zero=True)(tokens)
    counted = L.Masking(mask_value=0.0)(steps)
    through = L.Dense(3, "tanh")(L.Dropout(0.3)(words))
    outputs = [
        L.GlobalAveragePooling1D()(through),
        L.LSTM(3, return_sequences=bool(rng.integers(2)), go_backwards=bool(rng.integers(2)))(through),
        L.GRU(3, return_sequences=True, zero_output_for_mask=bool(rng.integers(2)))(counted),
        L.Bidirectional(L.LSTM(2, return_sequences=bool(rng.integers(2))))(words),
        L.MultiHeadAttention(2, 3, dropout=pick(rng, 0.0, 0.2))(words, words),
        L.Attention()([words, words]),
        L.TimeDistributed(L.Dense(2))(words),
        L.SimpleRNN(2)(L.Add()([words, words])),
    ]
    return keras.Model([tokens, steps], outputs)


def states(rng: Rng) -> Any:
    start, hidden, carry = keras.Input((6, 4)), keras.Input((3,)), keras.Input((3,))
    encoded = L.LSTM(3, return_state=True, return_sequences=True)(start, initial_state=[hidden, carry])
    decoded = L.GRU(3, return_sequences=bool(rng.integers(2)))(start, initial_state=encoded[1])
    both = L.Bidirectional(L.GRU(2, return_sequences=True, return_state=True))(start)
    # Two directions of their own, not merged.
    ahead, back = L.LSTM(2, return_sequences=True), L.LSTM(2, return_sequences=True, go_backwards=True)
    apart = L.Bidirectional(ahead, merge_mode=pick(rng, None, "sum"), backward_layer=back)(start)
    apart = keras.tree.flatten(apart)
    return keras.Model([start, hidden, carry], [*encoded, decoded, *both, *apart])


def operations(rng: Rng) -> Any:
    """`keras.ops` and operators between layers."""
    ops = keras.ops
    x, y = keras.Input((6, 4), name="x"), keras.Input((6, 4), name="y")
    joined = ops.concatenate([x[:, 1:4], ops.abs(y)[:, :2]], axis=1)
    outputs = [
        joined[:, -1],
        ops.maximum(x, 0.25) / (ops.square(y) + 1.0) - (1.5 - x),
        ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, 12, 2)),
        ops.expand_dims(ops.mean(x, axis=1), -1)
        * ops.sum(y, axis=pick(rng, 1, -2), keepdims=True)[:, :, 0:1],
        ops.squeeze(ops.max(y, axis=-1, keepdims=True), -1),
        ops.softmax(ops.relu6(x) * 2, axis=pick(rng, -1, 1)),
        ops.gelu(x, approximate=bool(rng.integers(2))) + ops.silu(-y),
        ops.where(ops.greater(x, y), x, ops.minimum(y, 0.5)),
        ops.clip(x**2, 0.1, 0.9),
        ops.matmul(x, ops.transpose(y, (0, 2, 1))),
        ops.leaky_relu(ops.exp(-ops.abs(x)) - 0.5, negative_slope=0.3),
    ]
    return keras.Model([x, y], outputs)


def types(rng: Rng) -> Any:
    """Inputs of other types than float32: bytes of pictures, long words, doubles."""
    picture = keras.Input((8, 8, 3), dtype="uint8", name="picture")
    words = keras.Input((7,), dtype="int64", name="words")
    numbers = keras.Input((4,), dtype="int32", name="numbers")
    doubles = keras.Input((4,), dtype="float64", name="doubles")
    outputs = [
        L.Conv2D(3, 3)(L.Rescaling(1 / 255)(picture)),
        L.Dense(3)(L.Flatten()(L.Cropping2D(2)(picture))),
        L.GlobalMaxPooling1D()(L.Embedding(9, 3)(words)),
        L.Dense(2)(numbers),
        L.Add()([L.Dense(4)(doubles), L.Rescaling(pick(rng, 0.5, 2.0))(numbers)]),
    ]
    return keras.Model([picture, words, numbers, doubles], outputs)


def half_precision(rng: Rng) -> Any:
    policy = pick(rng, "mixed_float16", "mixed_bfloat16")
    start = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, dtype=policy)(start)
    x = L.BatchNormalization(dtype=policy)(x)
    return keras.Model(start, L.Dense(3, dtype="float32")(L.GlobalAveragePooling2D(dtype=policy)(x)))


def deep(rng: Rng) -> Any:
    """Models in models that are called twice. Keras itself cannot load a layer that is in two of them."""
    inner, shared = inner_model(rng), L.Dense(4, "tanh")
    start, other = keras.Input((4,)), keras.Input((4,))
    both = L.Concatenate()([inner(shared(start)), inner(shared(L.ReLU()(start)))])
    tower = keras.Model(start, both, name="tower")
    return keras.Model([start, other], [L.Subtract()([tower(start), tower(other)]), L.ReLU()(other)])


MODELS = {f.__name__: f for f in (merged, attended, masked, states, operations, types, half_precision, deep)}
# Keras itself cannot read operations and masks back from .h5, nor write random layers to it.
KERAS_ONLY = ("masked", "operations", "Random…")


def build(name: str, seed: int) -> Any:
    """The model of a case: `LAYERS[name]`, alone, nested, shared, or between others."""
    rng = np.random.default_rng([seed, *name.encode()])
    keras.utils.clear_session()
    kind, make = LAYERS[name]
    shape = SHAPES[kind]
    dtype = "int32" if kind == "tokens" else "float32"
    structure = seed % 5
    layer = make(rng)
    start = keras.Input(shape, dtype=dtype, name="start")
    if structure == 0:  # A Sequential model.
        tail = [L.Flatten(), L.Dense(3)] if rng.integers(2) else []
        return keras.Sequential([keras.Input(shape, dtype=dtype), layer, *tail])
    if structure == 1 and kind != "tokens":  # A layer that is called twice, with an operation between.
        moved = start * 2.0 - 0.5
        return keras.Model(start, [layer(start), layer(moved)])
    if structure == 2 and not name.startswith("Random"):  # Nested models.
        inside = keras.Input(shape, dtype=dtype)
        part = keras.Model(inside, layer(inside), name="part")
        output = part(start)
        return keras.Model(start, L.Activation("tanh")(output))
    if structure == 3 and kind != "tokens":  # Two inputs that meet.
        other = keras.Input(shape, name="other")
        joined = pick(rng, L.Add(), L.Multiply(), L.Maximum(), L.Average(), L.Subtract(), L.Minimum())
        return keras.Model([start, other], layer(joined([start, other])))
    output = layer(start)
    return keras.Model(start, [output, L.Flatten()(output)])


def randomized(model: Any, rng: Rng) -> None:
    """Weights that all count; variances are positive."""
    for variable in model.variables:
        if "seed_generator" in variable.path or variable.dtype != "float32":
            continue
        values = rng.normal(0.0, 0.6, variable.shape)
        if "variance" in variable.path:
            values = np.abs(values) + 0.5
        variable.assign(values.astype("float32"))
    for layer in model._flatten_layers():
        if isinstance(layer, L.Normalization):
            layer.finalize_state()  # It computes with copies of its variables.


def inputs(model: Any, rng: Rng) -> list[Any]:
    def one(tensor: Any) -> Any:
        shape = (ROWS, *(side or 5 for side in tensor.shape[1:]))
        if tensor.dtype == "bool":
            return rng.random(shape) < 0.7
        if "int" in tensor.dtype:
            return rng.integers(0, 9, shape).astype(tensor.dtype)
        return rng.normal(0.3, 1.0, shape).astype(tensor.dtype)

    return [one(tensor) for tensor in model.inputs]


def flat(found: Any) -> list[Any]:
    return [np.asarray(value) for value in keras.tree.flatten(found)]


def run(bundle: Path, given: list[Any]) -> list[Any]:
    """What the bundle's graph gives, in TensorFlow itself."""
    import tensorflow as tf

    with zipfile.ZipFile(bundle) as members:
        manifest = json.loads(members.read("manifest.json"))
        definition = tf.compat.v1.GraphDef.FromString(members.read("graph.pb"))
    assert manifest["version"] == 2
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.import_graph_def(definition, name="")
        feeds = {spec["tensor"]: value for spec, value in zip(manifest["inputs"], given, strict=True)}
        found = session.run([spec["tensor"] for spec in manifest["outputs"]], feeds)
    for spec, value in zip(manifest["outputs"], found, strict=True):
        assert len(spec["shape"]) == value.ndim - 1
        fits = (side in (None, found) for side, found in zip(spec["shape"], value.shape[1:], strict=True))
        assert all(fits), (spec, value.shape)
    return found


def assert_equal(model: Any, folder: Path, rng: Rng, suffix: str, tolerance: float = 1e-4) -> None:
    randomized(model, rng)
    given = inputs(model, rng)
    expected = flat(model(given if len(given) > 1 else given[0], training=False))
    file, bundle = folder / f"model{suffix}", folder / "model.sparkdl"
    model.save(file)
    _engine.convert_keras(file, bundle, "")
    _engine.describe_bundle(bundle)
    found = run(bundle, given)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.isfinite(other).all()
        size = np.abs(other).max()
        assert np.abs(one.astype("float64") - other).max() <= tolerance * max(size, 1e-3)


def test_the_page_of_layers_is_whole_and_true() -> None:
    """Every layer of Keras is on the page once, and what it calls built is built by a case here."""
    page = (Path(__file__).parents[2] / "spark-package/docs/keras-layers.md").read_text()
    built, refused = (re.findall(r"^\| `(\w+)`", part, re.M) for part in page.split("## Refused"))
    classes = [getattr(L, name) for name in dir(L)]
    layers = {c.__name__ for c in classes if isinstance(c, type) and issubclass(c, L.Layer)}
    names = {"GroupedQueryAttention": "GroupQueryAttention", "MaxNumBoundingBox": "MaxNumBoundingBoxes"}
    clahe = {"CLAHE": "ContrastLimitedAdaptiveHistogramEqualization"}
    assert sorted(built + refused) == sorted((names | clahe).get(layer, layer) for layer in layers)
    source = Path(__file__).read_text()
    assert [layer for layer in built if not re.search(rf"\bL\.{layer}\b", source)] == ["InputLayer"]


@pytest.mark.filterwarnings("ignore:.*HDF5.*")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_what_keras_gives(name: str, tmp_path: Path) -> None:
    for seed in SEEDS:
        model = build(name, seed)
        rng = np.random.default_rng(seed)
        try:
            suffix = ".keras" if name in KERAS_ONLY else pick(rng, ".keras", ".h5")
            assert_equal(model, tmp_path, rng, suffix)
        except Exception as error:
            error.add_note(f"{name}, seed {seed}: {json.dumps(model.get_config())[:4000]}")
            raise


@pytest.mark.filterwarnings("ignore:.*HDF5.*")
@pytest.mark.parametrize("name", MODELS)
def test_models_give_what_keras_gives(name: str, tmp_path: Path) -> None:
    for seed in SEEDS:
        keras.utils.clear_session()
        rng = np.random.default_rng([seed, *name.encode()])
        model = MODELS[name](rng)
        try:
            suffix = ".keras" if name in KERAS_ONLY else pick(rng, ".keras", ".h5")
            # Keras rounds to 8 bits where it computes in bfloat16, the graph does not.
            assert_equal(model, tmp_path, rng, suffix, 2e-2 if name == "half_precision" else 1e-4)
        except Exception as error:
            error.add_note(f"{name}, seed {seed}")
            raise
