"""TFTransformer: columns through graphs, with the types checked on the driver, against TensorFlow itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructType,
)

import graph_models
from sparkdl import SparkDLValueError, TFInputGraph, TFTransformer

tf = pytest.importorskip("tensorflow")

v1 = tf.compat.v1
RNG = np.random.default_rng(7)
A = RNG.normal(size=(7, 3)).astype(np.float32)
B = RNG.integers(-9, 9, (7, 2, 3)).astype(np.int64)


def two_and_three() -> Any:
    """Two inputs, three outputs, in the style of TensorFlow 1."""
    graph = tf.Graph()
    with graph.as_default():
        a = v1.placeholder(tf.float32, [None, 3], "a")
        b = v1.placeholder(tf.int64, [None, None, 3], "b")
        tf.reduce_sum(a * 2, 1, name="total")
        tf.multiply(b, 3, name="tripled")
        tf.identity(a[:, None, :] + tf.cast(b, tf.float32), "both")
    return graph.as_graph_def()


@pytest.fixture(scope="module")
def graph(spark):
    return TFInputGraph.fromGraphDef(two_and_three(), ["a", "b"], ["total", "tripled", "both"])


@pytest.fixture(scope="module")
def frame(spark):
    rows = [(i, a, b) for i, (a, b) in enumerate(zip(A.tolist(), B.tolist(), strict=True))]
    schema = StructType().add("id", "integer").add("x", ArrayType(FloatType()))
    return spark.createDataFrame(rows, schema.add("y", ArrayType(ArrayType(LongType())))).repartition(2)


def stage(graph: Any, **params: Any) -> TFTransformer:
    inputs, outputs = {"x": "a", "y": "b:0"}, {"total": "sum", "tripled:0": "thrice", "both": "mixed"}
    return TFTransformer(**{"tfInputGraph": graph, "inputMapping": inputs, "outputMapping": outputs} | params)


def single(spark: Any, dtype: Any, shape: list[int | None], function: Any = lambda x: x) -> TFInputGraph:
    made = tf.Graph()
    with made.as_default():
        tf.identity(function(v1.placeholder(dtype, [None, *shape], "x")), "y")
    return TFInputGraph.fromGraphDef(made.as_graph_def(), ["x"], ["y"])


def test_several_inputs_and_outputs_are_tensorflows_own(graph, frame):
    result = stage(graph).transform(frame)
    assert result.columns == ["id", "x", "y", "mixed", "sum", "thrice"]
    rows = result.orderBy("id").collect()
    np.testing.assert_allclose([row["sum"] for row in rows], (A * 2).sum(1), rtol=1e-6)
    np.testing.assert_array_equal([row["thrice"] for row in rows], B * 3)
    np.testing.assert_allclose([row["mixed"] for row in rows], A[:, None, :] + B, rtol=1e-6)
    kinds = [result.schema[name].dataType for name in ("sum", "thrice", "mixed")]
    longs, floats = (ArrayType(ArrayType(kind(), False), False) for kind in (LongType, FloatType))
    assert kinds == [FloatType(), longs, floats]


def test_outputs_may_be_vectors(graph, frame):
    result = stage(graph, outputMapping={"both": "mixed"}, outputMode="vector").transform(frame)
    assert isinstance(result.schema["mixed"].dataType, VectorUDT)
    found = [row["mixed"].toArray() for row in result.orderBy("id").collect()]
    np.testing.assert_allclose(found, (A[:, None, :] + B).reshape(7, -1), rtol=1e-6)


def test_vectors_feed_float_inputs_without_a_cast(spark):
    rows = [(0, Vectors.dense([1, 2, 3])), (1, Vectors.sparse(3, [1], [5.0]))]
    frame = spark.createDataFrame(rows, StructType().add("id", "integer").add("x", VectorUDT()))
    for dtype in (tf.float32, tf.float64):
        graph = single(spark, dtype, [3], lambda x: x * 2)
        found = TFTransformer(tfInputGraph=graph, inputMapping={"x": "x"}, outputMapping={"y": "z"})
        rows = found.transform(frame).orderBy("id").collect()
        assert [list(row["z"]) for row in rows] == [[2, 4, 6], [0, 10, 0]]


@pytest.mark.parametrize(
    ("column", "dtype", "wanted"),
    [
        ("array<double>", "float32", "array<float>"),
        ("array<float>", "float64", "array<double>"),
        ("array<int>", "int64", "array<bigint>"),
        ("array<bigint>", "int32", "array<int>"),
        ("array<int>", "float32", "array<float>"),
        ("array<int>", "uint8", "array<smallint>"),
        ("array<int>", "bool", "array<boolean>"),
    ],
)
def test_a_column_of_another_type_is_refused_with_the_cast_to_write(
    spark, runs_no_job, column, dtype, wanted
):
    frame = spark.createDataFrame([], f"x {column}")
    graph = single(spark, tf.dtypes.as_dtype(dtype), [2])
    transformer = TFTransformer(tfInputGraph=graph, inputMapping={"x": "x"}, outputMapping={"y": "z"})
    with pytest.raises(SparkDLValueError) as refused:
        transformer.transform(frame)
    message = str(refused.value)
    assert f"Column x is of type {column}" in message
    assert f"type {dtype}: cast the column to {wanted}, or set castInputs" in message


def test_other_types_are_converted_where_that_is_asked_for(spark):
    frame = spark.createDataFrame([(0, [1, 2]), (1, [3, 1 << 40])], "id int, x array<bigint>")
    transformer = TFTransformer(inputMapping={"x": "x"}, outputMapping={"y": "z"}, errorCol="why")
    transformer.setCastInputs(True).setTfInputGraph(single(spark, tf.int32, [2], lambda x: x + 1))
    rows = transformer.transform(frame).orderBy("id").collect()
    assert list(rows[0]["z"]) == [2, 3]
    assert rows[1]["z"] is None
    assert "a number that int32 does not hold" in rows[1]["why"]


def test_nulls_and_ragged_rows_keep_their_place_with_a_reason(graph, frame):
    x = F.when(F.col("id") == 2, None).otherwise(F.col("x"))
    y = F.when(F.col("id") == 4, F.expr("array(array(1L, 2L, 3L), array(1L))")).otherwise(F.col("y"))
    broken = frame.withColumn("x", x).withColumn("y", y)
    rows = stage(graph, errorCol="why").transform(broken).orderBy("id").collect()
    assert [row["id"] for row in rows if row["sum"] is None] == [2, 4]
    assert rows[2]["why"] == "no value for the input a:0 (null)"
    assert "arrays inside of the value for the input b:0 are not of one length" in rows[4]["why"]
    assert stage(graph, handleInvalid="skip").transform(broken).count() == 5


FED_TWICE = {"x": "a", "x2": "a:0", "y": "b"}
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "input": ({"inputMapping": {"x": "aa", "y": "b"}}, "no input aa; the nearest: a:0"),
    "output": ({"outputMapping": {"tota": "z"}}, "no output tota; the nearest: total:0"),
    "left out": ({"inputMapping": {"x": "a"}}, "The input b:0 of the graph graph has no column"),
    "twice": ({"inputMapping": FED_TWICE}, "The columns x and x2 both feed the input a:0"),
    "same column": ({"outputMapping": {"total": "z", "both": "z"}}, "outputMapping has the column z twice"),
    "no such column": ({"inputMapping": {"q": "a", "y": "b"}}, "Column q does not exist"),
    "taken": ({"outputMapping": {"total": "id"}}, "Column id already exists"),
    "no bundle": ({"tfInputGraph": "graph.pb"}, "must be a TFInputGraph or the path of its bundle"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_wrong_mappings_are_refused_before_a_job(graph, frame, runs_no_job, case):
    params, expected = REFUSALS[case]
    with pytest.raises(SparkDLValueError) as refused:
        stage(graph, **params).transform(frame.withColumn("x2", F.col("x")))
    assert expected in str(refused.value)


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"": "a"}, "a"])
def test_mappings_must_be_dicts_of_names(value):
    with pytest.raises(SparkDLValueError, match="inputMapping must be a dict of column to tensor"):
        TFTransformer(inputMapping=value)


def test_a_saved_pipeline_carries_its_graph(spark, graph, frame, tmp_path):
    expected = [row["sum"] for row in stage(graph).transform(frame).orderBy("id").collect()]
    folder = str(tmp_path / "pipeline")
    Pipeline(stages=[stage(graph)]).fit(frame).write().overwrite().save(folder)
    loaded = PipelineModel.load(folder)
    assert loaded.stages[0].getInputMapping() == {"x": "a", "y": "b:0"}
    found = [row["sum"] for row in loaded.transform(frame).orderBy("id").collect()]
    assert found == expected


def test_tensorflow_1_code_in_the_style_of_the_original(spark, frame):
    made = tf.Graph()
    with made.as_default(), v1.Session(graph=made) as sess:
        x = v1.placeholder(tf.float32, shape=[None, 3], name="x")
        weights = v1.get_variable("weights", initializer=np.float32([[1], [2], [3]]))
        z = tf.squeeze(tf.matmul(x, weights), 1, name="z")
        sess.run(v1.global_variables_initializer())
        graph = TFInputGraph.fromGraph(made, sess, [x.name], [z.name])
    transformer = TFTransformer(tfInputGraph=graph, inputMapping={"x": x.name}, outputMapping={z.name: "z"})
    rows = transformer.transform(frame).orderBy("id").collect()
    np.testing.assert_allclose([row["z"] for row in rows], A @ [1, 2, 3], rtol=1e-5)


def test_columns_of_plain_numbers(spark):
    frame = spark.createDataFrame([(1,), (2,), (3,)], StructType().add("x", IntegerType()))
    graph = single(spark, tf.int32, [], lambda x: x * x)
    result = TFTransformer(tfInputGraph=graph, inputMapping={"x": "x"}, outputMapping={"y": "z"})
    assert sorted(row["z"] for row in result.transform(frame).collect()) == [1, 4, 9]
    doubles = spark.createDataFrame([(1.5,)], StructType().add("x", DoubleType()))
    with pytest.raises(SparkDLValueError, match="cast the column to int, or set castInputs"):
        result.transform(doubles)


SPARK = {
    "bool": BooleanType(),
    "float16": FloatType(),
    "float32": FloatType(),
    "float64": DoubleType(),
    "int8": ByteType(),
    "int16": ShortType(),
    "int32": IntegerType(),
    "int64": LongType(),
    "uint8": ShortType(),
    "object": StringType(),
}


@pytest.mark.parametrize("name", graph_models.MODELS)
def test_saved_models_of_every_kind_give_what_tensorflow_gives(spark, tmp_path, name):
    save, feeds = graph_models.MODELS[name]
    save(tmp_path / "model")
    served = tf.saved_model.load(str(tmp_path / "model")).signatures[graph_models.SERVING]
    expected = served(**{key: tf.constant(value) for key, value in feeds.items()})
    graph = TFInputGraph.fromSavedModelWithSignature(str(tmp_path / "model"))
    schema = StructType().add("id", "integer")
    for key, value in feeds.items():
        kind = SPARK[value.dtype.name]
        for _ in value.shape[1:]:
            kind = ArrayType(kind)
        schema = schema.add(f"in {key}", kind)
    rows = zip(range(graph_models.ROWS), *(value.tolist() for value in feeds.values()), strict=True)
    transformer = TFTransformer(
        tfInputGraph=graph,
        inputMapping={f"in {key}": key for key in feeds},
        outputMapping={key: f"out {key}" for key in expected},
    )
    # Together, since what some of them give depends on the number of rows.
    frame = spark.createDataFrame(list(rows), schema).coalesce(1)
    found = transformer.transform(frame).orderBy("id").collect()
    for key, value in expected.items():
        ours, theirs = np.array([row[f"out {key}"] for row in found]), value.numpy()
        assert ours.shape == theirs.shape
        if theirs.dtype.kind == "f":
            tolerance = 1e-6 * np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=key)
        elif theirs.dtype == object:
            assert ours.tolist() == np.vectorize(bytes.decode, otypes=[object])(theirs).tolist()
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=key)


def one_column(graph: Any, **params: Any) -> TFTransformer:
    mappings = {"inputMapping": {"x": "x"}, "outputMapping": {"y": "y"}, "errorCol": "why"}
    return TFTransformer(tfInputGraph=graph, **mappings | params)


def test_numbers_that_the_type_does_not_hold_are_invalid_rows(spark):
    halves = spark.createDataFrame([(0, [1.5]), (1, [1e6]), (2, [float("inf")])], "id int, x array<float>")
    rows = one_column(single(spark, tf.float16, [1])).transform(halves).orderBy("id").collect()
    assert [row["y"] for row in rows] == [[1.5], None, [float("inf")]]
    assert "a number that float16 does not hold" in rows[1]["why"]
    whole = spark.createDataFrame([(0, [1]), (1, [300]), (2, [-1])], "id int, x array<smallint>")
    rows = one_column(single(spark, tf.uint8, [1])).transform(whole).orderBy("id").collect()
    assert [row["y"] for row in rows] == [[1], None, None]
    assert "a number that uint8 does not hold" in rows[2]["why"]
    rows = one_column(single(spark, tf.int8, [1]), castInputs=True).transform(whole).orderBy("id").collect()
    assert [row["y"] for row in rows] == [[1], None, [-1]]
    assert "a number that int8 does not hold" in rows[1]["why"]


def test_bytes_feed_texts_and_unsigned_bytes(spark):
    data = [(0, bytearray(b"ab")), (1, bytearray(b"\xff\x00")), (2, None), (3, bytearray(b"abc"))]
    frame = spark.createDataFrame(data, "id int, x binary")
    levels = one_column(single(spark, tf.uint8, [2])).transform(frame).orderBy("id").collect()
    assert [row["y"] for row in levels] == [[97, 98], [255, 0], None, None]
    assert "3 numbers, but the input x:0 takes the shape [2]" in levels[3]["why"]
    texts = one_column(single(spark, tf.string, [])).transform(frame).orderBy("id").collect()
    assert [row["y"] for row in texts] == ["ab", None, None, "abc"]
    assert texts[1]["why"] == "a string of the output y:0 is not UTF-8"
    lengths = one_column(single(spark, tf.string, [], tf.strings.length)).transform(frame)
    assert [row["y"] for row in lengths.orderBy("id").collect()] == [2, 2, None, 3]


def test_texts_are_neither_numbers_nor_in_vectors(spark, runs_no_job):
    frame = spark.createDataFrame([], "x string, n array<int>")
    with pytest.raises(SparkDLValueError, match="give a column of numbers"):
        one_column(single(spark, tf.float32, []), castInputs=True).transform(frame)
    graph = single(spark, tf.string, [])
    with pytest.raises(SparkDLValueError, match="is of type string, which no vector holds"):
        one_column(graph, outputMode="vector").transform(frame)
    with pytest.raises(SparkDLValueError, match="cast the column to array<string>, or set castInputs"):
        one_column(graph, inputMapping={"n": "x"}).transform(frame)
    with pytest.raises(SparkDLValueError, match="cast the column to string first"):
        one_column(graph, inputMapping={"n": "x"}, castInputs=True).transform(frame)


def test_the_published_saved_model_gives_the_top_5_of_keras(spark, shared_data):
    keras = pytest.importorskip("keras")
    models, photographs = shared_data / "models", sorted((shared_data / "flowers").glob("*/*.jpg"))[::80]
    assert len(photographs) > 4
    pixels = [
        np.asarray(Image.open(file).convert("RGB").resize((224, 224)), np.float32) / 127.5 - 1
        for file in photographs
    ]
    expected = keras.models.load_model(models / "mobilenet_0.25_224.keras", compile=False).predict(
        np.stack(pixels), verbose=0
    )
    graph = TFInputGraph.fromSavedModelWithSignature(str(models / "mobilenet_0.25_224_savedmodel"))
    frame = spark.createDataFrame(
        [(index, picture.ravel().tolist()) for index, picture in enumerate(pixels)], "id int, x array<float>"
    )
    (taken,), (given,) = graph.inputs, graph.outputs
    stage = TFTransformer(
        tfInputGraph=graph, inputMapping={"x": taken.name}, outputMapping={given.name: "scores"}
    )
    for row, scores in zip(stage.transform(frame).orderBy("id").collect(), expected, strict=True):
        assert np.argsort(row["scores"])[::-1][:5].tolist() == np.argsort(scores)[::-1][:5].tolist()
        np.testing.assert_allclose(row["scores"], scores, rtol=0, atol=1e-4)


def test_operations_beyond_a_graph_need_the_stage_to_allow_them(spark, tmp_path):
    (tmp_path / "greeting").write_text("hello")
    function = tf.function(
        lambda x: {"y": tf.strings.join([tf.io.read_file(str(tmp_path / "greeting")), " ", x])},
        input_signature=[tf.TensorSpec([None], tf.string, "x")],
    )
    with pytest.raises(SparkDLValueError, match=r"ReadFile .*, which is not allowed"):
        TFInputGraph.fromFunction(function)
    graph = TFInputGraph.fromFunction(function, allowUnsafeOps=True)
    stage = TFTransformer(tfInputGraph=graph, inputMapping={"name": "x"}, outputMapping={"y": "said"})
    frame = spark.createDataFrame([("you",), (None,)], "name string")
    with pytest.raises(SparkDLValueError, match="runs operations that reach beyond it"):
        stage.transform(frame)
    stage.setAllowUnsafeOps(True).write().save(str(tmp_path / "stage"))
    loaded = TFTransformer.load(str(tmp_path / "stage"))
    assert loaded.getAllowUnsafeOps()
    assert [row.said for row in loaded.transform(frame).collect()] == ["hello you", None]
