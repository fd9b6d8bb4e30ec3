"""Small graphs that pictures and results go through. TensorFlow is imported by the functions that need it."""

from __future__ import annotations

from typing import Any

from sparkdl.exceptions import SparkDLValueError
from sparkdl.graph.builder import GraphFunction, IsolatedSession
from sparkdl.params.graphs import IMAGE_INPUT


def imageInputPlaceholder(nChannels: int | None = None) -> Any:
    """The placeholder that `TFImageTransformer` feeds where no `inputTensor` is set, in the default graph.

    float32 `[rows, height, width, nChannels]`, all of any size; samples from 0 to 255.
    """
    import tensorflow as tf

    shape = [None, None, None, nChannels]
    return tf.compat.v1.placeholder(tf.float32, shape, IMAGE_INPUT.removesuffix(":0"))


def buildSpImageConverter(channelOrder: str, img_dtype: str) -> GraphFunction:
    """From the fields of one of Spark's image structs to a batch of one picture.

    Inputs `height`, `width`, `num_channels` (int32, of one number) and `image_buffer` (string: the bytes, BGR
    or grey, of `uint8` or `float32` samples); the output is float32 `[1, height, width, channels]`, its
    channels in `channelOrder` ("RGB", "BGR", or "L": as they are).
    """
    import tensorflow as tf

    if channelOrder not in ("RGB", "BGR", "L"):
        raise SparkDLValueError(f'channelOrder must be one of "RGB", "BGR", "L" but was {channelOrder!r}.')
    if img_dtype not in ("uint8", "float32"):
        raise SparkDLValueError(f'img_dtype must be "uint8" or "float32" but was {img_dtype!r}.')
    v1 = tf.compat.v1
    with IsolatedSession() as session:
        sides = [v1.placeholder(tf.int32, [], name) for name in ("height", "width", "num_channels")]
        buffer = v1.placeholder(tf.string, [], "image_buffer")
        samples = tf.io.decode_raw(buffer, tf.dtypes.as_dtype(img_dtype))
        picture = tf.cast(tf.reshape(samples, [1, *sides]), tf.float32)
        if channelOrder == "RGB":
            # Of four channels the last is alpha, which stays where it is.
            picture = tf.concat([tf.reverse(picture[..., :3], [-1]), picture[..., 3:]], -1)
        return session.asGraphFunction([*sides, buffer], [tf.identity(picture, "picture")])


def buildFlattener() -> GraphFunction:
    """From a tensor of rows of any shape to one of rows that are vectors, float32."""
    import tensorflow as tf

    with IsolatedSession() as session:
        rows = tf.compat.v1.placeholder(tf.float32, None, "mat_input")
        flat = tf.reshape(rows, [tf.shape(rows)[0], -1])
        return session.asGraphFunction([rows], [tf.identity(flat, "mat_output")])
