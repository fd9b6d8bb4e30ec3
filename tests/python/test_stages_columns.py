"""The other columns: values, types, nullability, metadata and names come out as they went in."""

import datetime
import decimal

import pytest
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, LongType, StructField, StructType

from pictures import encoded, picture
from sparkdl import DeepImageFeaturizer


def featurizer(tiny, column="picture", **params):
    return DeepImageFeaturizer(inputCol=column, outputCol="out", modelName=tiny, **params)


@pytest.fixture(scope="module")
def pictures(spark):
    return spark.createDataFrame([(i, encoded(picture(i))) for i in range(3)], "id int, picture binary")


def with_columns(pictures, **columns):
    return pictures.select("*", *(F.expr(text).alias(name) for name, text in columns.items()))


def assert_untouched(frame, result, *columns):
    assert result.schema.fields[: len(frame.columns)] == frame.schema.fields
    # Compared by Spark: not every type comes to Python as a value.
    texts = [F.col(column).cast("string").alias(column) for column in columns]
    assert result.orderBy("id").select(*texts).collect() == frame.orderBy("id").select(*texts).collect()


def test_columns_of_every_type_pass_through(pictures, tiny):
    frame = with_columns(
        pictures,
        a_byte="cast(id as tinyint)",
        a_short="cast(id as smallint)",
        a_long="id * 10000000000L",
        a_float="cast(id / 3 as float)",
        a_double="if(id = 1, double('nan'), id / 3)",
        a_decimal="cast(id / 7 as decimal(38, 18))",
        a_bool="id = 1",
        a_text="if(id = 1, null, concat('Zürich ', id))",
        a_binary="cast(concat('x', id) as binary)",
        a_date="date_add(date'1582-10-14', id)",
        a_time="timestamp'2024-03-31 01:59:59.123456' + make_interval(0, 0, 0, id)",
        a_local_time="timestamp_ntz'2024-03-31 02:30:00.654321'",
        an_array="array(id, null, 3)",
        a_map="map(concat('k', id), array(id))",
        a_struct="named_struct('x', id, 'y', named_struct('z', array('a', null)))",
        months="make_ym_interval(id, 7)",
        seconds="make_dt_interval(id, 1, 2, 3.456789)",
        a_void="null",
    )
    names = [c for c in frame.columns if c not in ("picture", "months", "seconds")]
    assert_untouched(frame, featurizer(tiny).transform(frame), *names, "months", "seconds")


def test_calendar_intervals_go_round_what_arrow_cannot_carry(pictures, tiny):
    frame = with_columns(
        pictures,
        span="if(id = 1, null, make_interval(1, id, 2, -3, 4, 5, 6.789))",
        spans="array(make_interval(0, id), null)",
    )
    result = featurizer(tiny).transform(frame)
    assert_untouched(frame, result, "span", "spans")
    exact = "cast(span as string) = '1 years 2 months 11 days 4 hours 5 minutes 6.789 seconds'"
    assert result.where(f"id = 2 and {exact}").count() == 1


def test_a_calendar_interval_that_is_never_null_stays_so(pictures, tiny):
    frame = with_columns(pictures, span="coalesce(make_interval(id), make_interval())")
    assert_untouched(frame, featurizer(tiny).transform(frame), "span")


def test_vectors_pass_through_dense_and_sparse(spark, tiny):
    vectors = [Vectors.dense(1.0, 2.0), Vectors.sparse(9, {3: 4.0})]
    rows = [(seed, vector, encoded(picture(seed))) for seed, vector in enumerate(vectors)]
    schema = StructType().add("id", "integer").add("v", VectorUDT()).add("picture", "binary")
    frame = spark.createDataFrame(rows, schema)
    result = featurizer(tiny).transform(frame)
    assert [r["v"] for r in result.orderBy("id").collect()] == vectors


def test_nullability_and_metadata_stay(spark, tiny):
    schema = StructType(
        [
            StructField("id", LongType(), False, {"comment": "never null"}),
            StructField("name", StructType([StructField("x", LongType(), False)]), True),
            StructField("picture", BinaryType(), True, {"unit": "file"}),
        ]
    )
    frame = spark.createDataFrame([(1, (2,), encoded(picture(1))), (2, None, None)], schema)
    result = featurizer(tiny).transform(frame)
    assert result.schema.fields[:3] == schema.fields
    assert [tuple(row)[:2] for row in result.orderBy("id").collect()] == [(1, (2,)), (2, None)]


def test_the_labels_of_a_string_indexer_stay_in_the_metadata(spark, tiny):
    frame = spark.createDataFrame(
        [(i, kind, encoded(picture(i))) for i, kind in enumerate(["rose", "tulip", "rose"])],
        "id int, kind string, picture binary",
    )
    indexed = StringIndexer(inputCol="kind", outputCol="label").fit(frame).transform(frame)
    result = featurizer(tiny).transform(indexed)
    assert result.schema["label"].metadata["ml_attr"]["vals"] == ["rose", "tulip"]
    assembled = VectorAssembler(inputCols=["out", "label"], outputCol="all").transform(result)
    assert assembled.schema["all"].metadata["ml_attr"]["num_attrs"] == 9


@pytest.mark.parametrize("name", ["a.b", "a b", "a`b", "Ünï", "data"])
def test_names_with_dots_blanks_and_signs_are_names(spark, tiny, name):
    frame = spark.createDataFrame([(1, encoded(picture(1)))], ["id", name])
    stage = featurizer(tiny, name, errorCol=f"{name} error").setOutputCol(f"{name}.out")
    row = stage.transform(frame).collect()[0]
    assert list(row.asDict()) == ["id", name, f"{name}.out", f"{name} error"]
    assert row[2] is not None


def test_columns_that_stand_twice_pass_through(spark, pictures, tiny):
    twice = pictures.select("id", "id", "picture")
    result = featurizer(tiny).transform(twice)
    assert result.columns == ["id", "id", "picture", "out"]
    assert sorted(tuple(row)[:2] for row in result.collect()) == [(0, 0), (1, 1), (2, 2)]


def test_values_come_to_python_as_they_went(spark, tiny):
    moment = datetime.datetime(2024, 2, 29, 23, 59, 59, 999999)
    row = (decimal.Decimal("1.25"), moment, datetime.date(1970, 1, 1), [1, None], {"k": 2.5})
    schema = "d decimal(5,2), t timestamp, day date, a array<int>, m map<string,double>, picture binary"
    frame = spark.createDataFrame([(*row, encoded(picture(1)))], schema)
    assert tuple(featurizer(tiny).transform(frame).collect()[0])[:5] == row
