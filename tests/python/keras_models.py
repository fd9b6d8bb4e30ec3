"""Small seeded Keras models, with what they make of seeded rows."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 6


def keras() -> Any:
    return importlib.import_module("keras")


def several() -> Any:
    """Three inputs of two types and ranks 1 to 3; five outputs of three types and ranks 0 to 3."""
    k = keras()
    k.utils.set_random_seed(7)
    layers = k.layers
    tokens = k.Input((5,), dtype="int32", name="tokens")
    vector = k.Input((3,), name="vector")
    grid = k.Input((4, 3, 2), name="grid")
    steps = layers.Embedding(20, 3, embeddings_initializer="normal", name="steps")(tokens)
    maps = layers.Conv2D(2, 3, padding="same", bias_initializer="normal", name="maps")(grid)
    flat = [layers.Flatten()(steps), vector, layers.Flatten()(maps)]
    both = layers.Concatenate()(flat)
    scores = layers.Dense(4, activation="softmax", bias_initializer="normal", name="scores")(both)
    return k.Model([tokens, vector, grid], [scores, steps, maps, vector > 0, k.ops.sum(both, axis=-1)])


def rows(count: int = ROWS) -> list[np.ndarray]:
    """Rows for `several`: tokens, vectors, grids."""
    rng = np.random.default_rng(3)
    return [
        rng.integers(0, 20, (count, 5)).astype(np.int32),
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.normal(size=(count, 4, 3, 2)).astype(np.float32),
    ]


def outputs_of(model: Any, given: list[np.ndarray]) -> list[np.ndarray]:
    """What Keras makes of the rows, output by output; asserts that it differs from row to row."""
    found = model(given if len(given) > 1 else given[0], training=False)
    outputs = [np.asarray(output) for output in (found if isinstance(found, (list, tuple)) else [found])]
    for output in outputs:
        assert len(np.unique(output.reshape(len(output), -1), axis=0)) > 1, "the rows must differ"
    return outputs


def dense(units: int = 2, inputs: int = 3) -> Any:
    """One input, one output."""
    k = keras()
    k.utils.set_random_seed(5)
    layers = [k.layers.Dense(4, activation="tanh"), k.layers.Dense(units, name="scores")]
    return k.Sequential([k.Input((inputs,), name="numbers"), *layers], name="small")


def pictures(height: int | None = 16, width: int | None = 12, channels: int = 3, out: str = "scores") -> Any:
    """A picture in; scores [2] or a picture [h, w, 3] out."""
    k = keras()
    k.utils.set_random_seed(9)
    given = k.Input((height, width, channels), name="picture")
    x = k.layers.Rescaling(1 / 64.0)(given)
    x = k.layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer="normal")(x)
    if out == "scores":
        x = k.layers.Dense(2, name="scores")(k.layers.GlobalAveragePooling2D()(x))
    else:
        x = k.layers.Conv2D(int(out), 3, padding="same", name="painted")(x)
    return k.Model(given, x, name="eye")


def saved(model: Any, folder: Path, name: str = "model.keras") -> str:
    """The model as a file."""
    file = folder / name
    model.save(file)
    return str(file)
