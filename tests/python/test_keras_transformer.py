"""KerasTransformer: what it computes against Keras itself, whatever form rows come in and go out."""

import numpy as np
import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import DenseVector, Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    FloatType,
    IntegerType,
    ShortType,
    StructField,
    StructType,
)

import keras_models
from sparkdl import KerasTransformer

keras = pytest.importorskip("keras")

EXACT = 1e-5
INPUTS = ["tokens", "vector", "grid"]
OUTPUTS = ["scores", "steps", "maps", "positive", "total"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def several(folder):
    """File, rows, and what Keras makes of them."""
    model, rows = keras_models.several(), keras_models.rows()
    return keras_models.saved(model, folder, "several.keras"), rows, keras_models.outputs_of(model, rows)


@pytest.fixture(scope="module")
def frame(spark, several):
    tokens, vectors, grids = (column.tolist() for column in several[1])
    rows = [
        (index, *row)
        for index, row in enumerate(zip(tokens, map(Vectors.dense, vectors), grids, strict=True))
    ]
    nested = ArrayType(ArrayType(ArrayType(FloatType())))
    schema = StructType().add("id", "integer").add("tokens", ArrayType(IntegerType()))
    schema = schema.add("vector", VectorUDT()).add("grid", nested)
    return spark.createDataFrame(rows, schema).repartition(3, "id")


@pytest.fixture(scope="module")
def small(spark, folder):
    """A model of one input [3] and one output [2]: file, frame of columns a, b, c, and what Keras gives."""
    model = keras_models.dense()
    given = keras_models.rows()[1]
    frame = spark.createDataFrame(
        [(i, row) for i, row in enumerate(given.tolist())], "id int, numbers array<float>"
    )
    return keras_models.saved(model, folder, "small.keras"), frame, keras_models.outputs_of(model, [given])[0]


def collected(frame, *names):
    found = frame.orderBy("id").collect()
    return [np.array([np.asarray(row[name]) for row in found]) for name in names]


def transformer(file, **params):
    return KerasTransformer(modelFile=file, **({"inputCols": INPUTS, "outputCols": OUTPUTS} | params))


def one(file, **params):
    return KerasTransformer(modelFile=file, **({"inputCol": "numbers", "outputCol": "out"} | params))


def test_several_inputs_and_outputs_are_keras_own(several, frame):
    file, _, expected = several
    found = collected(transformer(file).transform(frame), *OUTPUTS)
    for name, ours, theirs in zip(OUTPUTS, found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=EXACT, err_msg=name)


def test_outputs_have_the_types_and_ranks_of_the_model(several, frame):
    schema = transformer(several[0]).transform(frame).schema
    numbers = ArrayType(FloatType(), False)
    assert [schema[name].dataType for name in OUTPUTS] == [
        numbers,
        ArrayType(numbers, False),
        ArrayType(ArrayType(numbers, False), False),
        ArrayType(BooleanType(), False),
        FloatType(),
    ]


@pytest.mark.parametrize(
    ("column", "form"),
    [
        ("tokens", "cast(tokens as array<bigint>)"),
        ("tokens", "cast(tokens as array<tinyint>)"),
        ("grid", "flatten(flatten(grid))"),
        ("grid", "cast(grid as array<array<array<double>>>)"),
    ],
    ids=["longs", "bytes", "flat", "doubles"],
)
def test_an_input_may_come_in_other_types_and_flat(several, frame, column, form):
    file, _, expected = several
    other = frame.withColumn(column, F.expr(form))
    scores = collected(transformer(file).transform(other), "scores")[0]
    np.testing.assert_allclose(scores, expected[0], atol=EXACT)


def test_vectors_may_be_sparse_and_feed_inputs_of_any_rank(spark, several):
    file, (tokens, vectors, grids), _ = several
    vectors, grids = vectors.copy(), grids.copy()
    vectors[:, 1] = 0
    grids[grids < 0] = 0
    rows = [
        (
            index,
            tokens[index].tolist(),
            Vectors.sparse(3, {0: float(vectors[index, 0]), 2: float(vectors[index, 2])}),
            Vectors.sparse(24, [(i, float(x)) for i, x in enumerate(grids[index].ravel()) if x]),
        )
        for index in range(len(tokens))
    ]
    schema = StructType().add("id", "integer").add("tokens", ArrayType(IntegerType()))
    schema = schema.add("vector", VectorUDT()).add("grid", VectorUDT())
    found = collected(transformer(file).transform(spark.createDataFrame(rows, schema)), *OUTPUTS)
    expected = keras_models.outputs_of(keras_models.several(), [tokens, vectors, grids])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=EXACT)


def test_columns_feed_the_inputs_that_are_named_and_take_the_outputs_that_are_named(several, frame):
    file, _, expected = several
    stage = KerasTransformer(
        modelFile=file,
        inputCols=["grid", "tokens", "vector"],
        inputNames=["grid", "tokens", "vector"],
        outputCols=["a", "b"],
        outputNames=["maps", "scores"],
    )
    result = stage.transform(frame)
    assert result.columns == ["id", "tokens", "vector", "grid", "a", "b"]
    maps, scores = collected(result, "a", "b")
    np.testing.assert_allclose(maps, expected[2], atol=EXACT)
    np.testing.assert_allclose(scores, expected[0], atol=EXACT)


def test_one_output_of_several_goes_to_output_col(several, frame):
    file, _, expected = several
    stage = KerasTransformer(modelFile=file, inputCols=INPUTS, outputCol="out", outputNames=["steps"])
    np.testing.assert_allclose(collected(stage.transform(frame), "out")[0], expected[1], atol=EXACT)


def test_vector_mode_flattens_row_by_row_and_names_the_size(several, frame):
    file, _, expected = several
    result = transformer(file, outputMode="vector").transform(frame)
    row = result.orderBy("id").first()
    assert all(isinstance(row[name], DenseVector) for name in OUTPUTS)
    for name, theirs in zip(OUTPUTS, expected, strict=True):
        assert result.schema[name].dataType == VectorUDT()
        assert result.schema[name].metadata == {"ml_attr": {"num_attrs": theirs[0].size}}
        ours = np.stack([row[name].toArray() for row in result.orderBy("id").collect()])
        np.testing.assert_allclose(ours, theirs.reshape(len(theirs), -1), atol=EXACT)


def test_vectors_out_feed_the_stages_of_spark(several, frame):
    result = transformer(several[0], outputMode="vector").transform(frame)
    assembled = VectorAssembler(inputCols=["scores", "total"], outputCol="all").transform(result)
    assert assembled.first()["all"].size == 5


def test_one_column_in_and_one_out(small):
    file, frame, expected = small
    np.testing.assert_allclose(collected(one(file).transform(frame), "out")[0], expected, atol=EXACT)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_the_batch_size_changes_nothing(small, batch_size):
    file, frame, expected = small
    found = collected(one(file, batchSize=batch_size).transform(frame), "out")[0]
    np.testing.assert_allclose(found, expected, atol=EXACT)


@pytest.mark.parametrize("name", ["small.h5", "odd name é%20.keras"])
def test_the_file_may_be_hdf5_and_have_any_name(spark, small, folder, name):
    _, frame, expected = small
    file = keras_models.saved(keras_models.dense(), folder, name)
    np.testing.assert_allclose(collected(one(file).transform(frame), "out")[0], expected, atol=EXACT)


def test_the_file_may_be_a_uri_or_a_bundle(small, folder):
    import sparkdl

    file, frame, expected = small
    bundle = str(sparkdl.export(file, folder / "small.sparkdl"))
    for place in (f"file://{file}", bundle):
        found = collected(one(place).transform(frame), "out")[0]
        np.testing.assert_allclose(found, expected, atol=EXACT)


def counted():
    """An encoding that is not built natively."""
    given = keras.Input((3,), dtype="int32", name="numbers")
    many = keras.layers.CategoryEncoding(num_tokens=5, output_mode="count")(given)
    return keras.Model(given, keras.layers.Dense(2, bias_initializer="normal")(many))


def recurrent():
    """A loop, which is a function of the graph."""
    given = keras.Input((4, 3, 3, 1), name="numbers")
    return keras.Model(given, keras.layers.ConvLSTM2D(2, 2)(given))


@pytest.mark.parametrize("make", [counted, recurrent])
def test_what_is_not_built_natively_is_made_by_keras(spark, folder, make):
    keras.utils.set_random_seed(8)
    model = make()
    shape, kind = (3,), np.int32
    if make is recurrent:
        shape, kind = (4, 3, 3, 1), np.float32
    rows = np.random.default_rng(1).integers(0, 5, (6, *shape)).astype(kind)
    expected = keras_models.outputs_of(model, [rows])[0]
    text = "array<int>" if make is counted else "array<float>"
    flat = [(i, row.ravel().tolist()) for i, row in enumerate(rows)]
    frame = spark.createDataFrame(flat, f"id int, numbers {text}")
    file = keras_models.saved(model, folder, f"{make.__name__}.keras")
    found = collected(one(file).transform(frame), "out")[0]
    np.testing.assert_allclose(found, expected, atol=EXACT)


def test_plain_numbers_feed_an_input_of_one_number(spark, folder):
    model = keras_models.dense(inputs=1)
    file = keras_models.saved(model, folder, "plain.keras")
    frame = spark.range(5).select(F.col("id"), (F.col("id") - 2).cast("double").alias("numbers"))
    expected = model(np.arange(5.0, dtype=np.float32)[:, None] - 2)
    for form in ("numbers", "cast(numbers as int)", "array(numbers)"):
        other = frame.withColumn("numbers", F.expr(form))
        np.testing.assert_allclose(collected(one(file).transform(other), "out")[0], expected, atol=EXACT)


def test_booleans_are_zero_and_one(spark, small):
    file, _, _ = small
    frame = spark.createDataFrame([(0, [True, False, True])], "id int, numbers array<boolean>")
    expected = keras_models.dense()(np.array([[1.0, 0, 1]], np.float32))
    np.testing.assert_allclose(collected(one(file).transform(frame), "out")[0], expected, atol=EXACT)


def test_rows_may_differ_in_sides_that_the_model_leaves_open(spark, folder):
    given = keras.Input((None, 2), name="numbers")
    keras.utils.set_random_seed(4)
    model = keras.Model(given, keras.layers.Dense(3, bias_initializer="normal")(given))
    file = keras_models.saved(model, folder, "open.keras")
    rng = np.random.default_rng(2)
    rows = [rng.normal(size=(steps, 2)).astype(np.float32) for steps in (3, 1, 3, 5)]
    frame = spark.createDataFrame(
        [(i, row.tolist()) for i, row in enumerate(rows)], "id int, numbers array<array<float>>"
    )
    for mode in ("array", "vector"):
        result = one(file, outputMode=mode).transform(frame)
        assert result.schema["out"].metadata == {}
        for row, steps in zip(result.orderBy("id").collect(), rows, strict=True):
            expected = np.asarray(model(steps[None]))[0]
            found = np.asarray(row["out"].toArray() if mode == "vector" else row["out"])
            np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=EXACT)


def test_bytes_go_in_and_come_out_as_small_numbers(spark, folder):
    given = keras.Input((2,), dtype="uint8", name="numbers")
    model = keras.Model(given, keras.layers.Dense(1, kernel_initializer="ones")(given))
    file = keras_models.saved(model, folder, "bytes.keras")
    frame = spark.createDataFrame([(0, [1, 255])], "id int, numbers array<int>")
    assert collected(one(file).transform(frame), "out")[0].tolist() == [[256.0]]


def test_other_columns_names_with_dots_and_names_that_stand_twice_pass_through(spark, small):
    file, _, _ = small
    frame = spark.createDataFrame([(1, 1, [1.0, 2.0, 3.0], "x")], ["id", "id", "a.b", "te`xt"])
    stage = KerasTransformer(modelFile=file, inputCol="a.b", outputCol="o.u.t", errorCol="why.not")
    result = stage.transform(frame)
    assert result.columns == ["id", "id", "a.b", "te`xt", "o.u.t", "why.not"]
    row = result.collect()[0]
    assert (row[0], row[1], row[3], row[5]) == (1, 1, "x", None)
    assert len(row[4]) == 2


def test_no_rows_and_empty_partitions_are_fine(small):
    file, frame, _ = small
    assert one(file).transform(frame.limit(0)).collect() == []
    sparse = frame.where("id = 3").repartition(8, "id")
    assert len(one(file).transform(sparse).collect()) == 1


def test_transform_itself_runs_nothing(small, runs_no_job):
    file, frame, _ = small
    one(file).transform(frame)


def test_a_stream_is_transformed(spark, small, tmp_path):
    file, frame, expected = small
    frame.write.parquet(str(tmp_path / "rows"))
    stream = spark.readStream.schema(frame.schema).parquet(str(tmp_path / "rows"))
    result = one(file).transform(stream)
    assert result.isStreaming
    writer = result.writeStream.format("memory").queryName("stream_of_numbers")
    writer.trigger(availableNow=True).start().awaitTermination()
    found = collected(spark.table("stream_of_numbers"), "out")[0]
    np.testing.assert_allclose(found, expected, atol=EXACT)


def test_columns_and_metadata_stay(spark, small):
    file, _, _ = small
    schema = StructType(
        [
            StructField("id", IntegerType(), False, {"comment": "never null"}),
            StructField("small", ShortType()),
            StructField("numbers", ArrayType(FloatType(), False), False, {"unit": "metre"}),
        ]
    )
    frame = spark.createDataFrame([(1, 2, [1.0, 2.0, 3.0])], schema)
    assert one(file).transform(frame).schema.fields[:3] == schema.fields
