"""mapRows, mapBlocks, reduceBlocks, aggregate: what TensorFlow gives for the same rows, blocks, groups."""

from __future__ import annotations

import json
import math
import tempfile
import zipfile
from typing import Any

import numpy as np
import pytest
from pyspark.sql import Row
from pyspark.sql import functions as F

from sparkdl import SparkDLValueError, TFInputGraph, aggregate, mapBlocks, mapRows, reduceBlocks

tf = pytest.importorskip("tensorflow")

SIZES = [1, 7, 33, 1000]


def graph(function: Any, **inputs: Any) -> TFInputGraph:
    """A function of tensors with these shapes and types as a graph."""
    signature = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
    return TFInputGraph.fromFunction(tf.function(function, input_signature=signature))


@pytest.fixture(scope="module")
def rows(spark: Any) -> Any:
    """100 rows in three partitions."""
    return spark.range(0, 100, 1, 3).select(
        "id",
        (F.col("id") % 7).alias("k"),
        F.col("id").cast("float").alias("x"),
        F.slice(F.array(F.lit(1.0), F.lit(2.0), F.lit(3.0)), 1, (F.col("id") % 3 + 1).cast("int"))
        .cast("array<float>")
        .alias("v"),
        F.col("id").cast("double").alias("total"),
        F.array(F.col("id"), -F.col("id")).alias("most"),
    )


def reduction() -> TFInputGraph:
    return graph(
        lambda total_input, most_input: {
            "total": tf.reduce_sum(total_input, 0),
            "most": tf.reduce_max(most_input, 0),
        },
        total_input=([None], tf.float64),
        most_input=([None, 2], tf.int64),
    )


ROW_GRAPHS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lengths": (lambda v: {"n": tf.size(v), "s": tf.reverse(v, [0])}, {"v": ([None], tf.float32)}, "n int"),
    "control flow": (
        lambda x: {"y": tf.while_loop(lambda y: y < 50.0, lambda y: [y * 2 + 1], [x])[0]},
        {"x": ([], tf.float32)},
        "y float",
    ),
    "texts": (lambda t: {"u": tf.strings.upper(t)}, {"t": ([], tf.string)}, "u string"),
    "ranks": (lambda most: {"o": most[:, None] * most[None]}, {"most": ([2], tf.int64)}, "o array"),
    "two inputs": (
        lambda x, total: {"z": tf.cast(x, tf.float64) * total, "b": total > 50},
        {"x": ([], tf.float32), "total": ([], tf.float64)},
        "z double",
    ),
}


@pytest.mark.parametrize("size", [1, 16, 1000])
@pytest.mark.parametrize("name", ROW_GRAPHS)
def test_map_rows_gives_what_the_graph_gives_for_each_row(name, size, rows):
    function, inputs, _ = ROW_GRAPHS[name]
    frame = rows.withColumn("t", F.concat(F.lit("row ü "), F.col("id").cast("string")))
    found = mapRows(frame, graph(function, **inputs), batchSize=size).collect()
    assert len(found) == 100
    for row in found:
        given = [tf.constant(row[column], dtype) for column, (_, dtype) in inputs.items()]
        for output, value in function(*given).items():
            expected = np.asarray(value.numpy())
            if value.dtype == tf.string:
                assert row[output] == value.numpy().decode()
            else:
                np.testing.assert_array_equal(np.array(row[output]), expected)


def test_map_rows_keeps_skips_or_refuses_rows_without_a_value(rows):
    broken = rows.withColumn("v", F.when(F.col("id") % 10 != 3, F.col("v")))
    summed = graph(lambda v: {"s": tf.reduce_sum(v)}, v=([None], tf.float32))
    kept = mapRows(broken, summed, outputMapping={"s": "sum"}, errorCol="why")
    assert kept.columns[-2:] == ["sum", "why"]
    bad = kept.filter("sum is null").select("id", "why").collect()
    assert [row.id for row in bad] == list(range(3, 100, 10))
    assert {row.why for row in bad} == {"no value for the input v (null)"}
    assert mapRows(broken, summed, handleInvalid="skip").count() == 90
    with pytest.raises(Exception, match=r"Cannot use the row in partition \d, row \d"):
        mapRows(broken, summed, handleInvalid="error").collect()


def test_map_rows_takes_empty_arrays_and_no_rows(rows):
    summed = graph(lambda v: {"s": tf.reduce_sum(v)}, v=([None], tf.float32))
    empty = rows.withColumn("v", F.expr("cast(array() as array<float>)"))
    assert {row.s for row in mapRows(empty, summed).select("s").collect()} == {0.0}
    assert mapRows(rows.limit(0), summed).collect() == []


@pytest.mark.parametrize("size", SIZES)
def test_map_blocks_runs_the_usable_rows_of_a_block_together(size, rows):
    centred = graph(
        lambda x: {"y": x - tf.reduce_mean(x), "n": tf.fill([tf.shape(x)[0]], tf.shape(x)[0])},
        x=([None], tf.float32),
    )
    broken = rows.withColumn("x", F.when(F.col("id") % 11 != 10, F.col("x")))
    found = mapBlocks(broken, centred, batchSize=size, errorCol="why").collect()
    for partition in (range(33), range(33, 66), range(66, 100)):
        for start in range(partition.start, partition.stop, size):
            block = range(start, min(start + size, partition.stop))
            usable = [id for id in block if id % 11 != 10]
            for id in block:
                if id not in usable:
                    assert found[id].why == "no value for the input x (null)"
                    assert found[id].y is None
                    continue
                assert found[id].n == len(usable)
                assert abs(found[id].y - (id - np.mean(usable))) < 1e-4


def test_blocks_do_not_depend_on_how_spark_cuts_its_batches(spark, rows):
    counted = graph(lambda x: {"n": tf.fill([tf.shape(x)[0]], tf.shape(x)[0])}, x=([None], tf.float32))
    key = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(key)
    wanted = [row.n for row in mapBlocks(rows, counted, batchSize=20).collect()]
    try:
        spark.conf.set(key, "3")
        assert [row.n for row in mapBlocks(rows, counted, batchSize=20).collect()] == wanted
        assert sorted(set(wanted)) == [13, 14, 20]
    finally:
        spark.conf.set(key, before)


def test_trim_gives_any_number_of_rows(rows):
    first = graph(lambda x: {"top": x[-2:], "n": tf.fill([2], tf.shape(x)[0])}, x=([None], tf.float32))
    found = mapBlocks(rows, first, trim=True, batchSize=1000)
    assert found.columns == ["n", "top"]
    tops = [31, 32, 64, 65, 98, 99]
    assert [(row.n, row.top) for row in found.collect()] == list(zip([33] * 4 + [34] * 2, tops, strict=True))
    three = graph(lambda x: {"y": tf.constant([[1.0, 2.0]] * 3) * x[0]}, x=([None], tf.float32))
    assert mapBlocks(rows, three, trim=True, outputMode="vector", batchSize=50).count() == 9
    none = graph(lambda x: {"y": x[:0]}, x=([None], tf.float32))
    assert mapBlocks(rows, none, trim=True).collect() == []


def test_trim_refuses_or_skips_rows_that_cannot_be_used(rows):
    same = graph(lambda x: {"y": x}, x=([None], tf.float32))
    broken = rows.withColumn("x", F.when(F.col("id") != 40, F.col("x")))
    with pytest.raises(
        Exception, match=r'Cannot use the row 7 of a block: no value.*Set handleInvalid to "skip"'
    ):
        mapBlocks(broken, same, trim=True).collect()
    assert mapBlocks(broken, same, trim=True, handleInvalid="skip").count() == 99
    with pytest.raises(SparkDLValueError, match='handleInvalid cannot be "keep"'):
        mapBlocks(broken, same, trim=True, handleInvalid="keep")
    with pytest.raises(SparkDLValueError, match="errorCol has no place"):
        mapBlocks(broken, same, trim=True, errorCol="why")


def test_rows_of_another_shape_are_not_in_the_block(rows):
    doubled = graph(lambda v: {"w": v * 2}, v=([None, None], tf.float32))
    found = mapBlocks(rows, doubled, errorCol="why").collect()
    for row in found:
        # The first row of each partition has one number: 0, 33 and 66 are multiples of 3.
        if row.id % 3 == 0:
            assert row.w == [2.0]
        else:
            length = row.id % 3 + 1
            assert row.why == (
                f"the shape [{length}] for the input v, but the rows of its block have the shape [1]"
            )


def test_a_graph_that_gives_other_rows_is_told_of_trim(rows):
    with pytest.raises(Exception, match="runs through mapBlocks with trim"):
        mapBlocks(rows, graph(lambda x: {"y": x[:2]}, x=([None], tf.float32))).collect()


@pytest.mark.parametrize("size", SIZES)
def test_reduce_blocks_gives_one_row_whatever_the_blocks(size, rows):
    assert reduceBlocks(rows, reduction(), batchSize=size) == Row(most=[99, 0], total=4950.0)


def test_reduce_blocks_of_texts_and_narrow_types(rows):
    joined = graph(
        lambda t_input, n_input: {
            "t": tf.strings.reduce_join(t_input, 0),
            "n": tf.reduce_max(n_input, 0),
        },
        t_input=([None], tf.string),
        n_input=([None], tf.uint8),
    )
    frame = rows.select(F.lit("ü").alias("t"), F.col("id").cast("smallint").alias("n"))
    assert reduceBlocks(frame, joined, batchSize=3) == Row(n=99, t="ü" * 100)


def test_reduce_blocks_of_nothing_and_of_nothing_usable(rows):
    with pytest.raises(SparkDLValueError, match="nothing to reduce: the DataFrame has no rows"):
        reduceBlocks(rows.limit(0), reduction())
    none = rows.withColumn("total", F.lit(None).cast("double"))
    assert reduceBlocks(none, reduction(), handleInvalid="skip") == Row(most=None, total=None)
    some = rows.withColumn("total", F.when(F.col("id") < 98, F.col("total")))
    assert reduceBlocks(some, reduction(), handleInvalid="skip", batchSize=1).total == 4753.0
    with pytest.raises(Exception, match='Set handleInvalid to "skip"'):
        reduceBlocks(some, reduction())


@pytest.mark.parametrize("size", SIZES)
def test_aggregate_gives_a_row_for_each_group_whatever_the_blocks(size, rows):
    found = aggregate(rows, "k", reduction(), batchSize=size)
    assert found.columns == ["k", "most", "total"]
    assert found.schema["k"] == rows.schema["k"]
    for row in found.collect():
        group = range(row.k, 100, 7)
        assert (row.most, row.total) == ([max(group), -row.k], sum(group))
    assert found.count() == 7


def test_aggregate_takes_for_one_group_what_group_by_does(rows):
    zeros = F.when(F.col("id") % 4 == 1, F.lit(-0.0)).when(F.col("id") % 4 == 2, F.lit(0.0))
    frame = rows.withColumn("a.b", F.when(F.col("id") % 4 == 0, F.lit(math.nan)).otherwise(zeros))
    frame = frame.withColumn("day", F.date_add(F.lit("1500-01-01"), (F.col("id") % 2).cast("int")))
    found = aggregate(frame, ["a.b", "day"], reduction(), batchSize=3).select("day", "total").collect()
    wanted = frame.groupBy("`a.b`", "day").agg(F.sum("total").alias("total")).select("day", "total").collect()
    assert sorted(found) == sorted(wanted)
    assert len(found) == 4


def test_aggregate_gives_nulls_for_a_group_of_which_nothing_is_left(rows):
    broken = rows.withColumn("total", F.when(F.col("k") != 3, F.col("total")))
    found = aggregate(broken, "k", reduction(), handleInvalid="skip", batchSize=4).collect()
    assert [row.k for row in found if row.total is None] == [3]
    assert len(found) == 7
    assert aggregate(rows.limit(0), "k", reduction()).collect() == []


def refused(expected: str, action: Any) -> None:
    with pytest.raises(SparkDLValueError) as error:
        action()
    assert expected in str(error.value)


def test_what_does_not_fit_is_refused_before_a_job(rows, runs_no_job):
    unpaired = graph(lambda total: {"total_sum": tf.reduce_sum(total, 0)}, total=([None], tf.float64))
    refused("The output total_sum has no input total_sum_input", lambda: reduceBlocks(rows, unpaired))
    other = graph(lambda x_input: {"x": tf.reduce_sum(x_input)}, x_input=([None, 3], tf.float32))
    refused("so the output x must be of that type and shape", lambda: reduceBlocks(rows, other))
    refused("Column total does not exist", lambda: reduceBlocks(rows.drop("total"), reduction()))
    refused("set castInputs", lambda: aggregate(rows.withColumn("total", F.col("id")), "k", reduction()))
    refused("Column total already exists", lambda: aggregate(rows, ["total"], reduction()))
    refused("aggregate needs a column to group by", lambda: aggregate(rows, [], reduction()))
    single = graph(lambda x: {"s": tf.reduce_sum(x)}, x=([None], tf.float32))
    refused(
        "has the shape [], but the first dimension must be open, for the rows. A graph of one row runs "
        "through mapRows.",
        lambda: mapBlocks(rows, single),
    )
    refused("is a single value and has no rows", lambda: mapBlocks(rows, single, trim=True))
    refused(
        "the first dimension must be open",
        lambda: mapBlocks(rows, graph(lambda v: {"y": v}, v=([2], "float"))),
    )
    refused("batchSize", lambda: mapRows(rows, single, batchSize=0))


def test_cast_inputs_converts_columns(rows):
    found = reduceBlocks(rows.withColumn("total", F.col("id")), reduction(), castInputs=True)
    assert found.total == 4950.0


def test_a_graph_of_one_row_with_a_table_is_refused_before_a_job(rows, runs_no_job):
    module = tf.Module()
    filling = tf.lookup.KeyValueTensorInitializer(tf.constant([1], tf.int64), tf.constant([2], tf.int64))
    module.table = tf.lookup.StaticHashTable(filling, -1)
    signature = [tf.TensorSpec([], tf.int64, "id")]
    module.looked_up = tf.function(lambda id: {"y": module.table.lookup(id)}, input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.looked_up.get_concrete_function())
        found = TFInputGraph.fromSavedModelWithSignature(folder)
    refused("a graph of one row cannot have tables", lambda: mapRows(rows, found))


def test_a_graph_that_reads_files_runs_where_both_reading_and_stage_allow_it(spark, tmp_path):
    (tmp_path / "five").write_text("12345")
    paths = spark.createDataFrame([(str(tmp_path / "five"),)], "path string")
    function = tf.function(
        lambda path: {"n": tf.strings.length(tf.io.read_file(path))},
        input_signature=[tf.TensorSpec([], tf.string, "path")],
    )
    refused("set allowUnsafeOps where you trust it", lambda: TFInputGraph.fromFunction(function))
    found = TFInputGraph.fromFunction(function, allowUnsafeOps=True)
    refused("runs operations that reach beyond it", lambda: mapRows(paths, found))
    assert mapRows(paths, found, allowUnsafeOps=True).first().n == 5


def test_a_manifest_that_says_another_shape_is_refused(rows, tmp_path):
    found = graph(lambda most: {"m": most * 2}, most=([2], tf.int64))
    with zipfile.ZipFile(found.path) as bundle:
        manifest, definition = json.loads(bundle.read("manifest.json")), bundle.read("graph.pb")
    for spec in (*manifest["inputs"], *manifest["outputs"]):
        spec["shape"] = [3]
    with zipfile.ZipFile(tmp_path / "crafted.sparkdl", "w") as crafted:
        crafted.writestr("graph.pb", definition)
        crafted.writestr("manifest.json", json.dumps(manifest))
    three = rows.withColumn("most", F.array("id", "id", "id"))
    expected = "the manifest gives serving_default_most:0 the shape [3], its graph [2]"
    refused(expected, lambda: mapRows(three, str(tmp_path / "crafted.sparkdl")))
