"""The layers of the small network that are learned without labels: what patches look like, and which
colours there are.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

SIDE = 96  # points a side of the network's input
GRID = 6  # places a side of its features
PATCH, WORDS, COLOURS = 8, 192, 48
CONTRAST = 0.01  # added to a patch's variance: flat patches answer weakly instead of loudly
THRESHOLD = 1.0  # answers below are silent


def _patches(pictures: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    rows, tops, lefts = (
        rng.integers(end, size=count) for end in (len(pictures), SIDE - PATCH + 1, SIDE - PATCH + 1)
    )
    cut = [
        pictures[n, y : y + PATCH, x : x + PATCH].ravel() for n, y, x in zip(rows, tops, lefts, strict=True)
    ]
    flat = np.stack(cut).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.sqrt(flat.var(1, keepdims=True) + CONTRAST)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _directions(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """K-means on the sphere, where a direction and its opposite are one: `count` unit vectors."""
    found = _unit(points[rng.permutation(len(points))[:count]])
    for _ in range(15):
        likeness = points @ found.T
        nearest = np.abs(likeness).argmax(1)
        signed = likeness[np.arange(len(points)), nearest]
        sums = np.zeros_like(found)
        np.add.at(sums, nearest, points * signed[:, None])
        empty = np.linalg.norm(sums, axis=1) < 1e-6
        sums[empty] = points[rng.integers(len(points), size=int(empty.sum()))]
        found = _unit(sums)
    return found


def _centres(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Plain k-means: `count` centres."""
    found = points[rng.permutation(len(points))[:count]]
    for _ in range(15):
        nearest = ((found**2).sum(1) - 2 * points @ found.T).argmin(1)
        found = np.stack(
            [points[nearest == k].mean(0) if (nearest == k).any() else found[k] for k in range(count)]
        )
    return found


class Words:
    """Filters and colours learned from pictures (float32 in -1…1, [n, SIDE, SIDE, 3]), as constants of a
    graph.
    """

    def __init__(self, pictures: np.ndarray, rng: np.random.Generator) -> None:
        patches = _patches(pictures, 60_000, rng)
        mean = patches.mean(0)
        variances, axes = np.linalg.eigh(np.cov(patches.T))
        whitening = (axes / np.sqrt(variances + 0.05)) @ axes.T
        words = _directions((patches - mean) @ whitening, WORDS, rng)
        filters = whitening @ words.T
        self._bias = (-mean @ filters).astype(np.float32)
        filters -= filters.mean(0)
        self._filters = filters.astype(np.float32).reshape(PATCH, PATCH, 3, WORDS)

        points = pictures.reshape(-1, 3)
        some = points[rng.integers(len(points), size=40_000)]
        self._colours = _centres(
            np.concatenate([some, rng.uniform(-1, 1, (10_000, 3))]), COLOURS, rng
        ).astype(np.float32)

    def answers(self, picture: tf.Tensor) -> tf.Tensor:
        """How much each patch looks like each word, and like its negative: [n, 45, 45, 2 * WORDS], not
        below 0.
        """
        grey = tf.reduce_mean(picture, -1, keepdims=True)
        mean = tf.nn.avg_pool2d(grey, PATCH, 2, "VALID")
        square = tf.nn.avg_pool2d(tf.reduce_mean(picture * picture, -1, keepdims=True), PATCH, 2, "VALID")
        contrast = tf.sqrt(tf.maximum(square - mean * mean, 0.0) + CONTRAST)
        likeness = tf.nn.conv2d(picture, self._filters, 2, "VALID") / contrast + self._bias
        return tf.nn.relu(tf.concat([likeness, -likeness], -1) - THRESHOLD)

    def roots(self, answers: tf.Tensor) -> tf.Tensor:
        """Answers averaged over GRID x GRID places, as square roots, which keeps a frequent word from
        drowning the others.
        """
        return tf.sqrt(tf.nn.avg_pool2d(answers, 8, 8, "SAME") + 1e-6)

    def colours(self, picture: tf.Tensor) -> tf.Tensor:
        """The share of each colour in GRID x GRID places, as square roots."""
        distance = tf.reduce_sum(self._colours**2, -1) - 2 * tf.einsum(
            "nhwc,kc->nhwk", picture, self._colours
        )
        shares = tf.nn.avg_pool2d(tf.nn.softmax(-12.0 * distance), SIDE // GRID, SIDE // GRID, "VALID")
        return tf.sqrt(shares + 1e-6)
