"""Models as SQL functions: what the stages give, wherever a function can stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from pictures import encoded, image_struct, picture
from sparkdl import (
    DeepImageFeaturizer,
    DeepImagePredictor,
    KerasTransformer,
    SparkDLValueError,
    TFInputGraph,
    makeGraphUDF,
    registerKerasImageUDF,
    registerModelUDF,
    registerPipeline,
)

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

TENSORS = str(Path(__file__).resolve().parents[1] / "fixtures/keras/tensors.keras")
BAD = {4: None, 9: b"no picture"}


@pytest.fixture(scope="module")
def pictures(spark: Any) -> Any:
    """20 rows in three partitions; 4 is null and 9 is no picture."""
    rows = [(seed, BAD.get(seed, encoded(picture(seed)))) for seed in range(20)]
    frame = spark.createDataFrame(rows, "id int, content binary").repartition(3)
    frame.createOrReplaceTempView("udf_pictures")
    return frame


@pytest.fixture(scope="module")
def scores(pictures: Any, tiny: str) -> dict[int, Any]:
    """What the stage gives, by id."""
    stage = DeepImagePredictor(inputCol="content", outputCol="out", modelName=tiny, outputMode="array")
    return {row.id: row.out for row in stage.transform(pictures).collect()}


def by_id(frame: Any, column: str = "out") -> dict[int, Any]:
    found = {row.id: row[column] for row in frame.collect()}
    assert len(found) == frame.count()
    return found


def assert_same(found: dict[int, Any], wanted: dict[int, Any]) -> None:
    """The same but for the last bits, which depend on how many rows run together, on some processors."""
    assert found.keys() == wanted.keys()
    for row, out in found.items():
        assert (out is None) == (wanted[row] is None)
        assert out is None or out == pytest.approx(wanted[row], abs=1e-6)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_scores_are_those_of_the_stage_whatever_the_batch(size, spark, pictures, scores, tiny):
    registerModelUDF(spark, f"scores_{size}", tiny, batchSize=size)
    found = by_id(spark.sql(f"SELECT id, scores_{size}(content) AS out FROM udf_pictures"))
    assert_same(found, scores)
    assert [id for id, out in found.items() if out is None] == [id for id in found if id in BAD]


def test_best_classes_and_features_are_those_of_the_stages(spark, pictures, tiny):
    registerModelUDF(spark, "best", tiny, topK=2)
    registerModelUDF(spark, "features", tiny, task="featurize", pooling="max")
    places = {"inputCol": "content", "outputCol": "out", "modelName": tiny}
    best = DeepImagePredictor(decodePredictions=True, topK=2, **places).transform(pictures)
    assert by_id(pictures.select("id", F.expr("best(content)").alias("out"))) == by_id(best)
    features = DeepImageFeaturizer(pooling="max", outputMode="array", **places).transform(pictures)
    assert by_id(pictures.select("id", F.expr("features(content) AS out"))) == by_id(features)


def test_image_structs_give_what_files_give(spark, scores, tiny):
    registerModelUDF(spark, "scores", tiny)
    rows = [(seed, image_struct(picture(seed))) for seed in range(4)]
    kind = "id int, image struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>"
    frame = spark.createDataFrame(rows, kind).selectExpr("id", "scores(image) AS out")
    assert_same(by_id(frame), {seed: scores[seed] for seed in range(4)})


@pytest.fixture
def function(spark: Any, tiny: str, pictures: Any) -> Any:
    return registerModelUDF(spark, "scores", tiny)


QUERIES = {
    "filter": "SELECT id, scores(content) AS out FROM udf_pictures WHERE scores(content)[0] >= 0",
    "join": "SELECT a.id, scores(b.content) AS out FROM udf_pictures a JOIN udf_pictures b ON a.id = b.id",
    "sub-query": "SELECT id, (SELECT first(scores(content)) FROM udf_pictures b WHERE b.id = a.id) AS out "
    "FROM udf_pictures a",
    "sort": "SELECT id, scores(content) AS out FROM udf_pictures ORDER BY scores(content)[1]",
    "case": "SELECT id, CASE WHEN content IS NULL THEN NULL ELSE scores(content) END AS out "
    "FROM udf_pictures",
    "group": "SELECT id, max(scores(content)) AS out FROM udf_pictures GROUP BY id",
    "window": "SELECT id, first(scores(content)) OVER (PARTITION BY id) AS out FROM udf_pictures",
    "union": "SELECT id, scores(content) AS out FROM udf_pictures WHERE id < 5 "
    "UNION ALL SELECT id, scores(content) FROM udf_pictures WHERE id >= 5",
}


@pytest.mark.parametrize("name", QUERIES)
def test_functions_stand_where_functions_stand(name, spark, function, scores):
    wanted = {id: out for id, out in scores.items() if name != "filter" or out is not None}
    assert_same(by_id(spark.sql(QUERIES[name])), wanted)


def test_functions_in_views_tables_and_caches(spark, function, scores, pictures):
    spark.sql(
        "CREATE OR REPLACE TEMPORARY VIEW udf_view AS SELECT id, scores(content) AS out FROM udf_pictures"
    )
    assert_same(by_id(spark.table("udf_view")), scores)
    cached = spark.table("udf_view").cache()
    try:
        assert_same(by_id(cached), scores)
    finally:
        cached.unpersist()
    spark.sql("DROP TABLE IF EXISTS udf_table")
    spark.sql("CREATE TABLE udf_table USING parquet AS SELECT id, scores(content) AS out FROM udf_pictures")
    try:
        assert_same(by_id(spark.table("udf_table")), scores)
    finally:
        spark.sql("DROP TABLE udf_table")
    assert_same(by_id(pictures.select("id", function("content").alias("out"))), scores)
    assert spark.sql("SELECT scores(content) FROM udf_pictures WHERE id > 100").collect() == []


def test_functions_in_a_stream(spark, function, scores, pictures, tmp_path):
    pictures.write.parquet(str(tmp_path / "rows"))
    stream = spark.readStream.schema(pictures.schema).parquet(str(tmp_path / "rows"))
    result = stream.selectExpr("id", "scores(content) AS out")
    query = result.writeStream.format("memory").queryName("udf_stream").trigger(availableNow=True).start()
    query.awaitTermination()
    assert_same(by_id(spark.table("udf_stream")), scores)


def test_a_model_on_tensors_takes_a_column_for_each_input_or_a_struct(spark):
    registerModelUDF(spark, "tensors", TENSORS)
    frame = spark.range(9).selectExpr(
        "cast(id AS int) AS id",
        "array(cast(id % 5 AS int), 1, 2, 3) AS tokens",
        "if(id = 4, NULL, array(id / 2, -1.0, cast(id AS double))) AS vector",
    )
    graph = TFInputGraph.fromKeras(TENSORS)
    names = [tensor.name for tensor in graph.outputs]
    stage = KerasTransformer(
        inputCols=["tokens", "vector"], outputCols=names, modelFile=TENSORS, outputMode="array"
    )
    wanted = {row.id: [row[name] for name in names] for row in stage.transform(frame).collect()}
    for call in ("tensors(tokens, vector)", "tensors(named_struct('vector', vector, 'tokens', tokens))"):
        found = by_id(frame.selectExpr("id", f"{call} AS out"))
        assert found.pop(4) is None
        assert {id: [out[name] for name in names] for id, out in found.items()} == {
            id: outs for id, outs in wanted.items() if id != 4
        }
    with pytest.raises(Exception, match=r"The function takes 2 columns \(tokens, vector\)"):
        frame.selectExpr("tensors(tokens)").collect()


def pooled() -> Any:
    keras.utils.set_random_seed(5)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 6, 3)), *layers])


def halved() -> Any:
    """A function that workers, who cannot import this file, are sent: a picture at half of its brightness."""

    def half(path: str) -> Any:
        import numpy
        from PIL import Image

        sized = Image.open(path).convert("RGB").resize((6, 8), Image.Resampling.BOX)
        return numpy.asarray(sized) // 2

    half.__module__ = "__main__"
    return half


@pytest.mark.parametrize("form", ["files", "structs"])
@pytest.mark.parametrize("preprocessor", [None, halved()])
def test_a_keras_model_on_pictures(form, preprocessor, spark, tmp_path):
    model = pooled()
    model.save(tmp_path / "model.keras")
    registerKerasImageUDF("pooled", str(tmp_path / "model.keras"), preprocessor)
    # Of the model's own size: Pillow rounds what it resizes, and the core does not.
    seeds = range(5)
    drawn = [picture(seed, 8, 6) for seed in seeds]
    rows = np.stack(drawn)
    wanted = model(np.float32(rows if preprocessor is None else rows // 2)).numpy()
    kind = "id int, image " + (
        "binary"
        if form == "files"
        else "struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>"
    )
    pixels = [encoded(one) if form == "files" else image_struct(one) for one in drawn]
    frame = spark.createDataFrame([*zip(seeds, pixels, strict=True), (7, None)], kind)
    found = by_id(frame.selectExpr("id", "pooled(image) AS out"))
    assert found.pop(7) is None
    np.testing.assert_allclose([found[seed] for seed in seeds], wanted, rtol=0, atol=2e-3)


def graph_of_rows() -> tuple[Any, Any, Any]:
    graph = tf.Graph()
    with graph.as_default():
        a = tf.compat.v1.placeholder(tf.float32, [], "a")
        b = tf.compat.v1.placeholder(tf.float64, [None], "b")
        c, d = tf.add(a * 2, 1, name="c"), tf.reduce_sum(b, name="d")
    return graph, c, d


def test_a_graph_as_a_function(spark):
    graph, c, _ = graph_of_rows()
    makeGraphUDF(graph, "one", [c])
    makeGraphUDF(graph, "two", ["c", "d:0"])
    makeGraphUDF(graph, "mapped", ["c", "d"], {"a": "x", "b": "y"})
    two = "named_struct('c', float(2 * id + 1), 'd', double(id + 1))"
    found = spark.range(7).selectExpr(
        "one(id) = 2 * id + 1",
        f"two(id, array(id, 1)) = {two}",
        f"two(named_struct('b', array(1, id), 'a', id)) = {two}",
        f"mapped(named_struct('y', array(1, id), 'x', id)) = {two}",
        "one(NULL) IS NULL",
        "two(id, NULL) IS NULL",
    )
    assert {value for row in found.collect() for value in row} == {True}
    unregistered = makeGraphUDF(graph, "nowhere", ["c"], register=False)
    assert [row[0] for row in spark.range(3).select(unregistered("id")).collect()] == [1, 3, 5]
    with pytest.raises(Exception, match="nowhere"):
        spark.sql("SELECT nowhere(1)").collect()


def test_a_blocked_graph_has_a_dimension_for_the_rows(spark):
    graph = tf.Graph()
    with graph.as_default():
        v = tf.compat.v1.placeholder(tf.float32, [None, 3], "v")
        tf.matmul(v, tf.constant([[1.0], [2.0], [3.0]]), name="w")
    makeGraphUDF(graph, "blocked", ["w"], blocked=True)
    found = spark.range(5).selectExpr("blocked(array(id, 1, 0)) AS w").collect()
    assert [row.w for row in found] == [[id + 2.0] for id in range(5)]


def test_a_pipeline_calls_functions_one_after_another(spark, pictures, scores, tiny):
    largest = TFInputGraph.fromFunction(
        tf.function(
            lambda s: {"largest": tf.argmax(s, 1)}, input_signature=[tf.TensorSpec([None, 4], name="s")]
        )
    )
    registerModelUDF(spark, "scores", tiny)
    registerModelUDF(spark, "largest", largest)
    registerPipeline("class_of", ["scores", "largest"])
    found = by_id(spark.sql("SELECT id, class_of(content) AS out FROM udf_pictures"))
    assert found == {id: None if out is None else int(np.argmax(out)) for id, out in scores.items()}
    with pytest.raises(SparkDLValueError, match="needs the names of functions"):
        registerPipeline("none", [])
    with pytest.raises(SparkDLValueError, match="The function unknown was not registered"):
        registerPipeline("none", ["scores", "unknown"])


def refused(expected: str, action: Any) -> None:
    with pytest.raises(SparkDLValueError) as error:
        action()
    assert expected in str(error.value)


def test_what_does_not_fit_is_refused_when_it_is_registered(spark, tiny):
    def register(model: Any, **options: Any) -> Any:
        return lambda: registerModelUDF(spark, "refused", model, **options)

    refused("Unknown model ResNet51", register("ResNet51"))
    refused('task cannot be "score"; it takes predict', register(tiny, task="score"))
    refused('A network does not do the task "run"; it takes predict, featurize', register(tiny, task="run"))
    refused('A model on tensors does not do the task "predict"', register(TENSORS, task="predict"))
    refused('topK goes with the task "predict"', register(tiny, task="featurize", topK=3))
    refused("has 3 outputs", register(TENSORS, task="images"))
    refused("batchSize", register(tiny, batchSize=0))
    refused("The param handleInvalid has no place in a function", register(tiny, handleInvalid="skip"))
    graph, c, d = graph_of_rows()
    refused(
        "feeds_to_fields_map must name each placeholder", lambda: makeGraphUDF(graph, "g", [c, d], {"a": "x"})
    )
    constant = tf.Graph()
    with constant.as_default():
        tf.constant(1.0, name="c")
    refused("needs no placeholder", lambda: makeGraphUDF(constant, "g", ["c"]))
