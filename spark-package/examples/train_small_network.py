"""Trains `small_network.sparkdl`, the network the demo uses where no published weights can be had.

The recipe, all of it seeded:

1. **Words.** 192 filters of 8 x 8 points are learned without labels, by k-means on whitened patches of
   the photographs that scikit-image and scikit-learn ship; 48 colours likewise. They answer to what a
   patch looks like, after its mean and contrast are taken out.
2. **Layers.** Four convolutions on the words are trained with labels: the kind of a drawn picture
   (`drawn_pictures.py`, seeds that the demo does not use), and, as a second task, which photograph a
   cropped and recoloured piece comes from.
3. **Features.** The roots of the pooled words and colours beside the last layer: 384 + 48 + 112 numbers
   in each of 6 x 6 places.

Run `python train_small_network.py`; it takes about ten minutes on two cores and writes the file beside
itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from drawn_pictures import KINDS, draw
from patch_words import SIDE, Words
from PIL import Image

SEED = 20260101
FIRST_DRAWN_SEED = 900_000_000  # the demo's pictures have seeds far below
PHOTOGRAPHS = [
    *(
        f"skimage/data/{name}"
        for name in (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "coffee.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "motorcycle_left.png",
            "retina.jpg",
            "rocket.jpg",
        )
    ),
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
]

Labelled = tuple[np.ndarray, np.ndarray]  # uint8 [n, SIDE, SIDE, 3], and [n] positions


def photographs() -> list[Image.Image]:
    import sklearn

    site = Path(sklearn.__file__).parents[1]
    return [Image.open(site / name).convert("RGB") for name in PHOTOGRAPHS]


def crop(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random square piece, perhaps mirrored, as uint8 of the network's size."""
    shorter = min(picture.size)
    side = max(int(shorter * rng.uniform(0.2, 1.0)), min(SIDE, shorter))
    left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
    piece = picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(piece)
    return pixels[:, ::-1] if rng.uniform() < 0.5 else pixels


def recolour(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other colours for the same piece: channels mixed, brighter or darker, so that only its look is left
    to go by.
    """
    mix = rng.dirichlet([0.6] * 3, 3)
    shifted = (pixels / 255.0) @ mix.T
    gain, offset = rng.uniform(0.7, 1.3, 3), rng.uniform(-0.15, 0.15, 3)
    return np.clip((shifted * gain + offset) * 255, 0, 255).astype(np.uint8)


def drawn(count: int, first_seed: int, rng: np.random.Generator) -> Labelled:
    """`count` drawn pictures, uint8, and the positions of their kinds."""
    kinds = list(KINDS)
    labels = np.arange(count) % len(kinds)
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for row, label in enumerate(labels):
        picture = draw(kinds[label], first_seed + row)
        pictures[row] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
    order = rng.permutation(count)
    return pictures[order], labels[order]


def pieces(count: int, rng: np.random.Generator) -> Labelled:
    """`count` recoloured pieces, uint8, and the positions of their photographs."""
    sources = photographs()
    labels = rng.integers(len(sources), size=count)
    return np.stack([recolour(crop(sources[label], rng), rng) for label in labels]), labels


def layers() -> keras.Sequential:
    """The layers with labels: words of 22 x 22 places to 112 numbers in each of 6 x 6."""

    def block(filters: int, width: int, strides: int = 1) -> list[keras.layers.Layer]:
        return [
            keras.layers.Conv2D(filters, width, strides, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.95),
            keras.layers.ReLU(),
        ]

    return keras.Sequential(
        [*block(64, 1), *block(64, 3), keras.layers.MaxPooling2D(2), *block(80, 3), *block(112, 3, 2)]
    )


class Network:
    """Words, layers, and a head for each of the two tasks. Takes float32 in -1…1, SIDE x SIDE, RGB."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.layers = layers()
        self.kinds = keras.layers.Dense(len(KINDS))
        self.sources = keras.layers.Dense(len(PHOTOGRAPHS))

    @property
    def variables(self) -> list[keras.Variable]:
        """What is trained with labels."""
        parts = (self.layers, self.kinds, self.sources)
        return [variable for part in parts for variable in part.trainable_variables]

    def deep(self, answers: tf.Tensor, training: bool) -> tf.Tensor:
        return self.layers(tf.nn.max_pool2d(answers, 2, 2, "VALID"), training=training)

    def pooled(self, picture: tf.Tensor, training: bool) -> tf.Tensor:
        deep = self.deep(self.words.answers(picture), training)
        return tf.concat([tf.reduce_mean(deep, [1, 2]), tf.reduce_max(deep, [1, 2])], -1)

    def outputs(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the bundle offers. `features` are GRID x GRID places; the other features are their mean
        and maximum.
        """
        answers = self.words.answers(picture)
        deep = self.deep(answers, training=False)
        seen = tf.concat([self.words.roots(answers), self.words.colours(picture), deep], -1)
        pooled = tf.concat([tf.reduce_mean(deep, [1, 2]), tf.reduce_max(deep, [1, 2])], -1)
        return {
            "features": tf.identity(seen, name="features"),
            "featuresAvg": tf.reduce_mean(seen, [1, 2], name="features_avg"),
            "featuresMax": tf.reduce_max(seen, [1, 2], name="features_max"),
            "predictions": tf.nn.softmax(self.kinds(pooled), name="predictions"),
        }


def to_input(pictures: np.ndarray) -> tf.Tensor:
    return tf.constant(pictures.astype(np.float32) / 127.5 - 1)


def train(
    network: Network,
    pictures: tuple[np.ndarray, np.ndarray],
    crops: tuple[np.ndarray, np.ndarray],
    epochs: int,
) -> None:
    """Adam on both tasks at once, its step falling to zero along a cosine."""
    batch, rng = 32, np.random.default_rng(SEED + 3)
    steps = epochs * (len(pictures[0]) // batch)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps))
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)
    def step(seen: tf.Tensor, kinds: tf.Tensor, sources: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            pooled = network.pooled(seen, training=True)
            here = tf.shape(kinds)[0]
            loss = cross_entropy(kinds, network.kinds(pooled[:here]))
            other = cross_entropy(sources, network.sources(pooled[here:]))
            total = loss + 0.5 * other
        gradients = tape.gradient(total, [variable.value for variable in network.variables])
        optimizer.apply_gradients(zip(gradients, network.variables, strict=True))
        return loss, other

    network.sources(network.pooled(to_input(pictures[0][:2]), training=False))
    network.kinds(network.pooled(to_input(pictures[0][:2]), training=False))
    optimizer.build(network.variables)
    for epoch in range(epochs):
        order, losses = rng.permutation(len(pictures[0])), []
        for start in range(0, len(order) - batch + 1, batch):
            chosen, others = order[start : start + batch], rng.integers(len(crops[0]), size=batch)
            both = to_input(np.concatenate([pictures[0][chosen], crops[0][others]]))
            losses.append([float(loss) for loss in step(both, pictures[1][chosen], crops[1][others])])
        print(
            f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses, 0).round(3)} (kinds, photographs)",
            flush=True,
        )


def accuracy(network: Network, pictures: np.ndarray, labels: np.ndarray) -> float:
    right = 0
    for start in range(0, len(labels), 50):
        scores = network.outputs(to_input(pictures[start : start + 50]))["predictions"].numpy()
        right += int((scores.argmax(1) == labels[start : start + 50]).sum())
    return right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("small_network.sparkdl"))
    parser.add_argument("--drawn", type=int, default=6000, help="drawn pictures to train on")
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(SEED)
    sources = photographs()
    seen = np.stack([crop(sources[n % len(sources)], rng)[..., rng.permutation(3)] for n in range(600)])
    network = Network(Words(to_input(seen).numpy(), rng))
    train(
        network, drawn(arguments.drawn, FIRST_DRAWN_SEED, rng), pieces(arguments.drawn, rng), arguments.epochs
    )

    held_out = drawn(500, FIRST_DRAWN_SEED + 50_000_000, rng)
    print(f"accuracy on 500 other drawn pictures: {accuracy(network, *held_out):.3f}")

    from small_bundle import write_bundle

    write_bundle(arguments.out, network.outputs, list(KINDS))
    print(f"wrote {arguments.out} ({arguments.out.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
