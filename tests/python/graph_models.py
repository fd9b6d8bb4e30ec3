"""Models that TensorFlow and Keras save, small ones of every kind, with rows to feed them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

v1 = tf.compat.v1
SERVING = "serving_default"
ROWS = 5
Arrays = dict[str, npt.NDArray[Any]]


def floats(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(ROWS, *shape)).astype(np.float32)


def whole(*shape: int, below: int = 10, dtype: Any = np.int64) -> npt.NDArray[Any]:
    return np.random.default_rng(7).integers(0, below, (ROWS, *shape)).astype(dtype)


def variable(*shape: int) -> Any:
    return tf.Variable(np.random.default_rng(3).normal(size=shape).astype(np.float32))


class Model(tf.Module):  # type: ignore[misc, name-defined]
    """A function over variables, as a SavedModel."""

    def __init__(self, variables: dict[str, Any], function: Any, signature: list[Any]) -> None:
        super().__init__()
        self.variables_by_name = variables
        self.call = tf.function(lambda *tensors: function(variables, *tensors), input_signature=signature)


def saved(variables: dict[str, Any], function: Any, **inputs: Any) -> Callable[[Path], None]:
    signature = [tf.TensorSpec([None, *shape], dtype, name) for name, (shape, dtype) in inputs.items()]

    def save(folder: Path) -> None:
        model = Model(variables, function, signature)
        tf.saved_model.save(model, str(folder), signatures=model.call.get_concrete_function())

    return save


def exported(*layers: Any) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        keras.utils.set_random_seed(5)
        keras.Sequential(list(layers)).export(str(folder), verbose=False)

    return save


def loop(given: dict[str, Any], x: Any) -> dict[str, Any]:
    def body(index: Any, state: Any) -> Any:
        return index + 1, tf.tanh(state @ given["w"])

    _, state = tf.while_loop(lambda index, _: index < 3, body, (0, x))
    above = tf.reduce_sum(state) > 1e9
    return {"y": tf.cond(above, lambda: state + given["w"][0], lambda: state - given["w"][1])}


def chosen(given: dict[str, Any], x: Any) -> dict[str, Any]:
    branches = [lambda: x + given["a"], lambda: x * given["a"], lambda: x - given["b"]]
    return {"y": tf.switch_case(tf.shape(x)[0] % 3, branches)}


def nested(given: dict[str, Any], x: Any) -> dict[str, Any]:
    @tf.function  # type: ignore[untyped-decorator]
    def inner(y: Any) -> Any:
        return y * given["scale"]

    @tf.function  # type: ignore[untyped-decorator]
    def outer(y: Any) -> Any:
        return inner(y) + inner(y + given["shift"])

    return {"y": outer(x), "z": inner(x)}


def tf1(use_resource: bool, partitions: int = 1) -> Callable[[Path], None]:
    """A SavedModel of TensorFlow 1."""

    def save(folder: Path) -> None:
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 6], "x")
            split = v1.fixed_size_partitioner(partitions) if partitions > 1 else None
            with v1.variable_scope("dense", partitioner=split, use_resource=use_resource):
                kernel = v1.get_variable("kernel", [6, 4], initializer=v1.glorot_uniform_initializer(seed=2))
            bias = v1.get_variable("bias", [4], initializer=v1.ones_initializer(), use_resource=use_resource)
            y = tf.nn.relu(x @ tf.convert_to_tensor(kernel) + bias, "y")
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})

    return save


INPUT = keras.Input
L = keras.layers
TEXTS = ["a", "Größe", "", "two words", "日本語 text", "zebra"]
TEXT = ([], tf.string)
LINE_NUMBER = tf.lookup.TextFileIndex.LINE_NUMBER


def texts(*shape: int) -> npt.NDArray[Any]:
    chosen = np.random.default_rng(7).integers(0, len(TEXTS), (ROWS, *shape))
    return np.array(TEXTS, object)[chosen]


def table() -> Any:
    values = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2], tf.int64), tf.constant([5, 6], tf.int64))
    return tf.lookup.StaticHashTable(values, -1)


def looked_up(given: dict[str, Any], x: Any) -> dict[str, Any]:
    return {"y": given["table"].lookup(x)}


def vocabulary(folder: Path) -> str:
    file = folder.parent / "vocabulary.txt"
    file.write_text("\n".join(text for text in TEXTS if text) + "\n")
    return str(file)


def from_file(folder: Path) -> None:
    """Words to numbers and back; the file is an asset of the model and gone afterwards."""
    file, whole_line, number = vocabulary(folder), tf.lookup.TextFileIndex.WHOLE_LINE, LINE_NUMBER
    places = tf.lookup.TextFileInitializer(file, tf.string, whole_line, tf.int64, number)
    words = tf.lookup.TextFileInitializer(file, tf.int64, number, tf.string, whole_line)
    tables = {
        "places": tf.lookup.StaticVocabularyTable(places, 3),
        "words": tf.lookup.StaticHashTable(words, "?"),
    }

    def function(given: dict[str, Any], x: Any) -> dict[str, Any]:
        found = given["places"].lookup(x)
        return {"places": found, "words": given["words"].lookup(found)}

    saved(tables, function, x=TEXT)(folder)
    Path(file).unlink()


def tf1_table(folder: Path) -> None:
    file = vocabulary(folder)
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.string, [None], "x")
        places = tf.lookup.TextFileInitializer(
            file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, LINE_NUMBER
        )
        y = tf.lookup.StaticHashTable(places, -1).lookup(x)
        session.run(v1.tables_initializer())
        v1.saved_model.simple_save(
            session, str(folder), {"x": x}, {"y": y}, legacy_init_op=v1.tables_initializer()
        )
    Path(file).unlink()


def residual(folder: Path) -> None:
    """Sums that a convolution feeds and others read."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((8, 8, 4), name="x")
    tensor = inputs
    for _ in range(2):
        branch = L.Conv2D(4, 3, padding="same", activation="relu")(tensor)
        tensor = L.Add()([L.Conv2D(4, 3, padding="same")(branch), tensor])
    keras.Model(inputs, L.GlobalAveragePooling2D()(tensor)).export(str(folder), verbose=False)


def attention(folder: Path) -> None:
    """Of several heads, with a mask, and of one head beside it."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6, 8), name="x")
    own = L.MultiHeadAttention(2, 3)(inputs, inputs, use_causal_mask=True)
    tensor = L.LayerNormalization()(L.Add()([inputs, own]))
    keras.Model(inputs, L.Attention()([tensor, inputs])).export(str(folder), verbose=False)


W = {"w": variable(4, 4)}
MODELS: dict[str, tuple[Callable[[Path], None], Arrays]] = {
    "one variable": (saved(W, lambda v, x: {"y": x @ v["w"]}, x=([4], tf.float32)), {"x": floats(4)}),
    "no variable": (
        saved({}, lambda _, x: {"y": x * 2 + 1}, x=([3], tf.float64)),
        {"x": floats(3).astype(float)},
    ),
    "scalars": (saved({}, lambda _, x: {"y": x + 1}, x=([], tf.int64)), {"x": whole()}),
    "rank 4": (
        saved({}, lambda _, x: {"y": tf.nn.relu(x)}, x=([2, 3, 2, 2], tf.float32)),
        {"x": floats(2, 3, 2, 2)},
    ),
    "booleans": (
        saved({}, lambda _, x: {"y": x > 4, "n": tf.cast(x, tf.uint8)}, x=([3], tf.int32)),
        {"x": whole(3, dtype=np.int32)},
    ),
    "two inputs": (
        saved(
            W,
            lambda v, a, b: {"sum": a + b @ v["w"], "ids": tf.argmax(a, 1)},
            a=([4], tf.float32),
            b=([4], tf.float32),
        ),
        {"a": floats(4), "b": floats(4)[::-1].copy()},
    ),
    "gather": (
        saved(
            {"table": variable(10, 3)}, lambda v, ids: {"y": tf.gather(v["table"], ids)}, ids=([6], tf.int64)
        ),
        {"ids": whole(6)},
    ),
    "integer variable": (
        saved({"n": tf.Variable(3, dtype=tf.int64)}, lambda v, x: {"y": x * v["n"]}, x=([2], tf.int64)),
        {"x": whole(2)},
    ),
    "while and if": (saved(W, loop, x=([4], tf.float32)), {"x": floats(4)}),
    "case": (saved({"a": variable(4), "b": variable(4)}, chosen, x=([4], tf.float32)), {"x": floats(4)}),
    "nested functions": (
        saved({"scale": variable(4), "shift": variable()}, nested, x=([4], tf.float32)),
        {"x": floats(4)},
    ),
    "dense": (
        exported(INPUT((5,), name="x"), L.Dense(7, "relu"), L.BatchNormalization(), L.Dense(3)),
        {"x": floats(5)},
    ),
    "convolution": (
        exported(INPUT((8, 8, 3), name="x"), L.Conv2D(4, 3, 2, "same"), L.Flatten(), L.Dense(2)),
        {"x": floats(8, 8, 3)},
    ),
    "recurrent": (
        exported(
            INPUT((6,), dtype="int32", name="x"),
            L.Embedding(10, 8, mask_zero=True),
            L.Bidirectional(L.LSTM(5)),
            L.Dense(2),
        ),
        {"x": whole(6, dtype=np.int32)},
    ),
    "attention": (attention, {"x": floats(6, 8)}),
    "gated recurrent": (
        exported(
            INPUT((6, 8), name="x"),
            L.LayerNormalization(),
            L.GRU(4, return_sequences=True),
            L.UnitNormalization(),
        ),
        {"x": floats(6, 8)},
    ),
    "TensorFlow 1, references": (tf1(use_resource=False), {"x": floats(6)}),
    "TensorFlow 1, resources": (tf1(use_resource=True), {"x": floats(6)}),
    "TensorFlow 1, in parts": (tf1(use_resource=False, partitions=3), {"x": floats(6)}),
    "half precision": (
        saved({}, lambda _, x: {"y": x * 2 + 1, "wide": tf.cast(x, tf.float32)}, x=([3], tf.float16)),
        {"x": whole(3, dtype=np.float16) / np.float16(4)},
    ),
    "half precision variable": (
        saved(
            {"w": tf.Variable(np.float16([[1, 2], [3, 4]]))},
            lambda v, x: {"y": x @ v["w"]},
            x=([2], tf.float16),
        ),
        {"x": whole(2, dtype=np.float16)},
    ),
    "bytes of a sign": (
        saved({}, lambda _, x: {"y": x + 1, "n": -x}, x=([2, 3], tf.int8)),
        {"x": whole(2, 3, below=100, dtype=np.int8) - np.int8(50)},
    ),
    "short integers": (
        saved(
            {"n": tf.Variable(np.int16([5, -6]))},
            lambda v, x: {"y": x + v["n"], "rank 3": tf.stack([x, x], 1)[:, None]},
            x=([2], tf.int16),
        ),
        {"x": whole(2, below=900, dtype=np.int16)},
    ),
    "a byte variable": (
        saved({"n": tf.Variable(np.int8([3, -4]))}, lambda v, x: {"y": x + v["n"]}, x=([2], tf.int8)),
        {"x": whole(2, dtype=np.int8)},
    ),
    "unsigned bytes": (
        saved(
            {}, lambda _, x: {"y": 255 - x, "sum": tf.reduce_sum(tf.cast(x, tf.int32), 1)}, x=([4], tf.uint8)
        ),
        {"x": whole(4, below=256, dtype=np.uint8)},
    ),
    "upper case and length": (
        saved({}, lambda _, x: {"y": tf.strings.upper(x), "n": tf.strings.length(x, "UTF8_CHAR")}, x=TEXT),
        {"x": texts()},
    ),
    "joined texts": (
        saved(
            {},
            lambda _, x: {"y": tf.strings.reduce_join(x, 1, separator="-"), "z": x[:, ::-1]},
            x=([3], tf.string),
        ),
        {"x": texts(3)},
    ),
    "texts of rank 2": (saved({}, lambda _, x: {"y": x + "!"}, x=([2, 2], tf.string)), {"x": texts(2, 2)}),
    "texts of rank 3": (
        saved(
            {},
            lambda _, x: {"y": tf.strings.join([x, x], ","), "n": tf.strings.length(x)},
            x=([2, 1, 2], tf.string),
        ),
        {"x": texts(2, 1, 2)},
    ),
    "narrow types and texts at once": (
        saved(
            {},
            lambda _, a, b, c, d: {
                "a": a * 2,
                "b": tf.transpose(b, [0, 2, 1]) - 1,
                "c": c / 2,
                "d": tf.strings.reduce_join(d, 1),
            },
            a=([], tf.int8),
            b=([2, 3], tf.int16),
            c=([2, 1, 2], tf.float16),
            d=([None], tf.string),
        ),
        {
            "a": whole(below=60, dtype=np.int8),
            "b": whole(2, 3, below=900, dtype=np.int16),
            "c": whole(2, 1, 2, dtype=np.float16),
            "d": texts(3),
        },
    ),
    "parts of texts": (
        saved(
            {},
            lambda _, x: {
                "y": tf.strings.substr(x, 0, 2, "UTF8_CHAR"),
                "z": tf.strings.regex_replace(x, "[aeiou]", "_"),
                "n": tf.strings.to_hash_bucket_fast(x, 100),
            },
            x=TEXT,
        ),
        {"x": texts()},
    ),
    "numbers as texts": (
        saved(
            {},
            lambda _, x: {"y": tf.as_string(x), "z": tf.strings.to_number(tf.as_string(x))},
            x=([2], tf.int64),
        ),
        {"x": whole(2)},
    ),
    "texts of a variable's rows": (
        saved(
            {"w": variable(4, 2)},
            lambda v, x: {"y": tf.gather(v["w"], tf.strings.to_hash_bucket_fast(x, 4))},
            x=TEXT,
        ),
        {"x": texts()},
    ),
    "rank 1 of doubles": (
        saved({}, lambda _, x: {"y": tf.cumsum(x, 1)}, x=([4], tf.float64)),
        {"x": floats(4).astype(float)},
    ),
    "rank 2 to rank 0": (
        saved({}, lambda _, x: {"y": tf.reduce_max(x, [1, 2])}, x=([2, 3], tf.float32)),
        {"x": floats(2, 3)},
    ),
    "rank 0 to rank 3": (
        saved({}, lambda _, x: {"y": x[:, None, None, None] * tf.ones([1, 2, 1, 3])}, x=([], tf.float32)),
        {"x": floats()},
    ),
    "a side of any size": (
        saved({}, lambda _, x: {"y": tf.transpose(x, [0, 2, 1]) + 1}, x=([None, 4], tf.float32)),
        {"x": floats(3, 4)},
    ),
    "three inputs of three types": (
        saved(
            {},
            lambda _, a, b, c: {"y": tf.where(c, a, tf.cast(b, tf.float32)), "any": tf.reduce_any(c, 1)},
            a=([3], tf.float32),
            b=([3], tf.int32),
            c=([3], tf.bool),
        ),
        {"a": floats(3), "b": whole(3, dtype=np.int32), "c": whole(3, below=2, dtype=bool)},
    ),
    "row by row": (
        saved(
            {},
            lambda _, x: {"y": tf.map_fn(lambda row: tf.reduce_sum(row[: tf.shape(row)[0] // 2]), x)},
            x=([6], tf.float32),
        ),
        {"x": floats(6)},
    ),
    "sorted and selected": (
        saved(
            {},
            lambda _, x: dict(zip(("values", "places"), tf.math.top_k(x, 2), strict=True)),
            x=([5], tf.float32),
        ),
        {"x": floats(5)},
    ),
    "einsum": (
        saved(
            {"w": variable(3, 2, 4)},
            lambda v, x: {"y": tf.einsum("bi,ijk->bjk", x, v["w"])},
            x=([3], tf.float32),
        ),
        {"x": floats(3)},
    ),
    "convolution of a sequence": (
        exported(
            INPUT((8, 3), name="x"), L.Conv1D(4, 3, padding="causal"), L.GlobalMaxPooling1D(), L.Dense(2)
        ),
        {"x": floats(8, 3)},
    ),
    "separable convolution": (
        exported(INPUT((8, 8, 2), name="x"), L.SeparableConv2D(3, 3), L.ReLU(), L.GlobalAveragePooling2D()),
        {"x": floats(8, 8, 2)},
    ),
    "a table": (saved({"table": table()}, looked_up, x=([3], tf.int64)), {"x": whole(3, below=4)}),
    "a table of texts from a file": (from_file, {"x": texts()}),
    "TensorFlow 1, a table": (tf1_table, {"x": texts()}),
    "residual network": (residual, {"x": floats(8, 8, 4)}),
}
