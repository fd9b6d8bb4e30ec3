"""Rows that a model cannot take: kept with a reason, skipped, or the end of the job."""

import numpy as np
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql.types import StructType

import keras_models
from sparkdl import KerasTransformer

keras = pytest.importorskip("keras")

STOPPED = (PySparkException, Py4JJavaError)
HINT = 'Set handleInvalid to "keep" or "skip" to go on without it.'

GRIDS = {
    "fine": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    "null": None,
    "null inside": [[1.0, None], [3.0, 4.0], [5.0, 6.0]],
    "null row": [[1.0, 2.0], None, [5.0, 6.0]],
    "ragged": [[1.0, 2.0], [3.0], [5.0, 6.0]],
    "too few": [[1.0, 2.0], [3.0, 4.0]],
    "turned": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
    "empty": [],
    "fine too": [[6.0, 5.0], [4.0, 3.0], [2.0, 1.0]],
}
REASONS = {
    "null": "no value for the input grid (null)",
    "null inside": "a null inside of the value for the input grid",
    "null row": "a null inside of the value for the input grid",
    "ragged": "the arrays inside of the value for the input grid are not of one length",
    "too few": "the shape [2, 2], but the input grid takes the shape [3, 2]",
    "turned": "the shape [2, 3], but the input grid takes the shape [3, 2]",
    "empty": "the shape [0, 0], but the input grid takes the shape [3, 2]",
}


def model():
    keras.utils.set_random_seed(6)
    given = keras.Input((3, 2), name="grid")
    layers = keras.layers
    both = layers.Flatten()(given)
    return keras.Model(given, [layers.Dense(2, bias_initializer="normal")(both), layers.Dense(1)(both)])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return keras_models.saved(model(), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame(list(GRIDS.items()), "name string, grid array<array<double>>").repartition(2)


def stage(file, **params):
    return KerasTransformer(inputCol="grid", outputCols=["a", "b"], modelFile=file, **params)


def named(result):
    return {row["name"]: row for row in result.collect()}


def test_keep_keeps_every_row_and_gives_a_reason_for_each_bad_one(file, frame):
    rows = named(stage(file, errorCol="why").transform(frame))
    assert {name: row["why"] for name, row in rows.items() if row["why"]} == REASONS
    for name, row in rows.items():
        assert (row["a"] is None, row["b"] is None) == (name in REASONS,) * 2
    fine = ["fine", "fine too"]
    expected = model()(np.array([GRIDS[name] for name in fine], np.float32))
    np.testing.assert_allclose([rows[name]["a"] for name in fine], expected[0], atol=1e-5)
    np.testing.assert_allclose([rows[name]["b"] for name in fine], expected[1], atol=1e-5)


def test_vectors_are_null_too(file, frame):
    rows = named(stage(file, outputMode="vector").transform(frame))
    assert {name for name, row in rows.items() if row["a"] is None} == set(REASONS)


def test_skip_keeps_the_good_rows_alone(file, frame):
    rows = named(stage(file, handleInvalid="skip", errorCol="why").transform(frame))
    assert set(rows) == {"fine", "fine too"}
    assert all(row["why"] is None for row in rows.values())


def test_error_stops_the_job_and_names_the_place(spark, file):
    frame = spark.createDataFrame(
        [("a", GRIDS["fine"]), ("b", None)], "name string, grid array<array<double>>"
    )
    with pytest.raises(STOPPED) as caught:
        stage(file, handleInvalid="error").transform(frame.coalesce(1)).collect()
    assert f"Cannot use the row in partition 0, row 1: {REASONS['null']}. {HINT}" in str(caught.value)


def test_error_names_the_row_by_a_column_called_path(spark, file):
    frame = spark.createDataFrame([("data/7.csv", [[1.0]])], "path string, grid array<array<double>>")
    with pytest.raises(
        STOPPED, match=r"Cannot use the row data/7\.csv: the shape \[1, 1\], but the input grid "
    ):
        stage(file, handleInvalid="error").transform(frame).collect()


def test_flat_arrays_and_vectors_must_have_as_many_numbers(spark, file):
    vectors = [Vectors.dense(range(6)), Vectors.dense([1.0] * 5), Vectors.sparse(9, {8: 1.0}), None]
    schema = StructType().add("id", "integer").add("grid", VectorUDT())
    frame = spark.createDataFrame(list(enumerate(vectors)), schema)
    rows = stage(file, errorCol="why").transform(frame).orderBy("id").collect()
    assert [row["why"] for row in rows] == [
        None,
        "5 numbers, but the input grid takes the shape [3, 2]",
        "9 numbers, but the input grid takes the shape [3, 2]",
        REASONS["null"],
    ]


def test_whole_numbers_must_fit_the_inputs_type(spark, tmp_path):
    given = keras.Input((2,), dtype="int32", name="tokens")
    layers = keras.layers
    embedded = layers.Flatten()(layers.Embedding(4, 2)(given))
    file = keras_models.saved(keras.Model(given, layers.Dense(1)(embedded)), tmp_path)
    frame = spark.createDataFrame([(0, [1, 3]), (1, [1, 2**31])], "id int, tokens array<bigint>")
    stage = KerasTransformer(inputCol="tokens", outputCol="out", modelFile=file, errorCol="why")
    rows = stage.transform(frame).orderBy("id").collect()
    assert [row["why"] for row in rows] == [None, "a number that int32 does not hold, for the input tokens"]


def test_a_bad_value_in_any_input_makes_the_row_invalid(spark, tmp_path):
    file = keras_models.saved(keras_models.several(), tmp_path)
    tokens, vector, grid = (column[0].tolist() for column in keras_models.rows())
    rows = [(0, tokens, vector, grid), (1, tokens, vector[:2], grid), (2, None, vector, grid)]
    schema = "id int, tokens array<int>, vector array<float>, grid array<array<array<float>>>"
    stage = KerasTransformer(modelFile=file, inputCols=["tokens", "vector", "grid"], outputCols=list("abcde"))
    result = stage.setErrorCol("why").transform(spark.createDataFrame(rows, schema))
    found = result.orderBy("id").collect()
    assert [row["why"] for row in found] == [
        None,
        "2 numbers, but the input vector takes the shape [3]",
        "no value for the input tokens (null)",
    ]
    assert all(row[name] is None for row in found[1:] for name in "abcde")
    assert all(found[0][name] is not None for name in "abcde")
