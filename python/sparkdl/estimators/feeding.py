"""The rows of a trial as Keras takes them: batches from files that are mapped, not read.

Only a trial's process imports this: it loads TensorFlow.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

_CAFFE_MEAN = (123.68, 116.779, 103.939)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Rows:
    """The rows of a trial, each once, in an order that depends on what is in them alone."""

    inputs: list[Numbers]
    """For each input of the model `[rows in the file, ...]`, mapped."""
    tables: list[Numbers | None]
    """For each input the float32 of every level and channel, `[256, channels]`, where it has levels."""
    place: Numbers
    """Of each row in the files."""
    keys: Numbers
    """What tells inputs apart: 32 bytes each."""
    labels: Numbers
    weights: Numbers | None

    def take(self, chosen: Numbers) -> Rows:
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[chosen]
        return Rows(
            self.inputs, self.tables, self.place[chosen], self.keys[chosen], self.labels[chosen], weights
        )

    def batch(self, chosen: Numbers) -> tuple[Any, ...]:
        """What Keras trains on at once."""
        places = self.place[chosen]
        inputs = [_floats(file[places], table) for file, table in zip(self.inputs, self.tables, strict=True)]
        x = inputs[0] if len(inputs) == 1 else tuple(inputs)
        labels = self.labels[chosen]
        return (x, labels) if self.weights is None else (x, labels, self.weights[chosen])


def opened(spec: dict[str, Any]) -> Rows:
    """The rows that the task wrote."""
    with np.load(spec["rows"]) as columns:
        row, keys = columns["row"], columns["key"]
        labels, weights = columns["label"], columns["weight"]
    count = len(row)
    inputs = [np.memmap(i["file"], i["dtype"], "r", shape=(count, *i["shape"])) for i in spec["inputs"]]
    # Two fits at a time may have decoded a picture twice: then its rows stand twice.
    _, first = np.unique(row, return_index=True)
    texts = [labels[first].reshape(len(first), -1)[:, n] for n in range(labels[:1].size)]
    order = first[np.lexsort((row[first], weights[first], *texts, keys[first]))]
    return Rows(
        inputs=list(inputs),
        tables=[_table(i) for i in spec["inputs"]],
        place=order,
        keys=keys[order],
        labels=labels[order],
        weights=weights[order] if spec["weighted"] else None,
    )


def split(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows | None]:
    """Rows to train on and rows to validate with; equal inputs are on the same side."""
    if not fraction:
        return rows, None
    keys, group = np.unique(rows.keys, return_inverse=True)
    hashes = [hashlib.sha256(f"{seed}/".encode() + bytes(key)).digest() for key in keys]
    ranked = sorted(range(len(keys)), key=hashes.__getitem__)
    count = min(max(1, round(fraction * len(keys))), len(keys) - 1)
    held = np.zeros(len(keys), bool)
    held[ranked[:count]] = True
    validates = held[group.reshape(-1)]
    return rows.take(np.flatnonzero(~validates)), rows.take(np.flatnonzero(validates))


def targets(labels: Numbers, spec: dict[str, Any], shape: list[int]) -> tuple[Numbers, Numbers | None]:
    """Labels as the loss takes them, and the class of each row where there are classes."""
    size = math.prod(shape)
    if spec["kind"] == "vector":
        classes = labels.argmax(1) if size > 1 else (labels[:, 0] > 0.5).astype(np.int64)
        if spec["family"] == "sparse":
            return classes.astype(np.int32), classes
        return labels.reshape(-1, *shape).astype(np.float32), classes
    if spec["family"] == "sparse":
        return labels.astype(np.int32), labels.astype(np.int64)
    if size > 1:
        classes = labels.astype(np.int64)
        return np.eye(size, dtype=np.float32)[classes].reshape(-1, *shape), classes
    classes = labels.astype(np.int64) if spec["family"] == "binary" or spec["texts"] else None
    return labels.reshape(-1, *shape).astype(np.float32), classes


def class_factors(classes: Numbers, weights: Any, outputs: int) -> Numbers:
    """The factor of each row's weight that `classWeights` gives it."""
    count = max(2, outputs)
    if weights == "balanced":
        found = np.bincount(classes, minlength=count)
        present = np.count_nonzero(found)
        factors = np.where(found, len(classes) / (present * np.maximum(found, 1)), 0.0)
    else:
        factors = np.ones(count)
        for index, weight in weights.items():
            factors[int(index)] = weight
    chosen: Numbers = factors[classes].astype(np.float32)
    return chosen


def endless(rows: Rows, batch_size: int, shuffle_seed: int | None) -> Any:
    """Batches of one pass over the rows after the other, each in its own order where there is a seed."""
    import tensorflow as tf

    return _batches(rows, batch_size, shuffle_seed, tf.data.Dataset.counter())


def once(rows: Rows, batch_size: int) -> Any:
    """Batches of one pass over the rows as they are."""
    import tensorflow as tf

    return _batches(rows, batch_size, None, tf.data.Dataset.range(steps(rows, batch_size)))


def steps(rows: Rows, batch_size: int) -> int:
    """How many batches a pass over the rows has."""
    return math.ceil(len(rows.place) / batch_size)


def _batches(rows: Rows, batch_size: int, shuffle_seed: int | None, numbers: Any) -> Any:
    """A `tf.data.Dataset` of the batches of these numbers, counted over all passes, made one ahead.

    Not a `keras.utils.PyDataset`: that is a generator to TensorFlow, whose `GeneratorDataset` has malloc map
    all that is larger than 128 KiB afresh, for the rest of the process, where Python is 3.11 or later
    (`ApplyPython311MemoryPatch`). Each tensor of a step is one of those: an epoch took twice as long.
    """
    import tensorflow as tf

    example = rows.batch(np.arange(1))
    kinds = tf.nest.flatten(example)
    in_pass = steps(rows, batch_size)

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> Numbers:
        return epoch_order(len(rows.place), shuffle_seed, epoch)

    def made(number: Any) -> list[Numbers]:
        epoch, step = divmod(int(number), in_pass)
        chosen = order(epoch)[step * batch_size : (step + 1) * batch_size]
        arrays: list[Numbers] = tf.nest.flatten(rows.batch(chosen))
        return arrays

    def load(number: Any) -> Any:
        tensors = tf.numpy_function(made, [number], [kind.dtype for kind in kinds])
        for tensor, kind in zip(tensors, kinds, strict=True):
            tensor.set_shape((None, *kind.shape[1:]))
        return tf.nest.pack_sequence_as(example, tensors)

    options = tf.data.Options()
    # There is nothing to tune, and who lets go of an iterator waits for what tunes it: up to a minute.
    options.autotune.enabled = False
    return numbers.map(load).prefetch(1).with_options(options)


def epoch_order(count: int, seed: int | None, epoch: int) -> Numbers:
    """The order of rows in an epoch; without a seed their own."""
    if seed is None:
        return np.arange(count)
    return np.random.default_rng((seed, epoch)).permutation(count)


def _floats(values: Numbers, table: Numbers | None) -> Numbers:
    if table is None:
        return values
    floats = np.empty(values.shape, np.float32)
    for channel in range(values.shape[-1]):
        np.take(table[:, channel], values[..., channel], out=floats[..., channel])
    return floats


def _table(spec: dict[str, Any]) -> Numbers | None:
    """Normalised levels, in the order of operations of the core that scores: the same floats."""
    if spec["dtype"] != "uint8" or "normalization" not in spec:
        return None
    channels, order, name = spec["shape"][-1], spec["channelOrder"], spec["normalization"]
    levels: Numbers = np.repeat(np.arange(256, dtype=np.float32)[:, None], channels, 1)
    if name == "tf":
        scaled: Numbers = levels / np.float32(127.5) - np.float32(1)
        return scaled
    colours = [np.array(values, np.float32) for values in (_CAFFE_MEAN, _TORCH_MEAN, _TORCH_DEVIATION)]
    caffe, mean, deviation = colours if order == "RGB" else [values[::-1] for values in colours]
    if name == "caffe":
        return levels - caffe
    if name == "torch":
        table: Numbers = (levels / np.float32(255) - mean) / deviation
        return table
    return levels
