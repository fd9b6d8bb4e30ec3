"""Rows without a usable picture: kept with a reason, skipped, or the end of the job with the file's name."""

import numpy as np
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql.types import StructType

from pictures import encoded, huge_header, image_struct, picture, reference
from sparkdl import DeepImageFeaturizer, DeepImagePredictor
from sparkdl.transformers.picture_columns import IMAGE_TYPE

GOOD = [picture(seed) for seed in range(3)]
JPEG = encoded(picture(7, 200, 200), "JPEG")
ROWS = [
    ("good0.png", encoded(GOOD[0])),
    ("truncated.jpg", JPEG[: int(len(JPEG) * 0.4)]),
    ("good1.png", encoded(GOOD[1])),
    ("text.jpg", b"this is a text file\n" * 20),
    ("null", None),
    ("huge.png", huge_header()),
    ("good2.png", encoded(GOOD[2])),
    ("empty.png", b""),
]
BAD = {name for name, _ in ROWS if not name.startswith("good")}
# Spark rethrows an exception that carries a condition as it is, and PySpark wraps only those it knows.
STOPPED = (PySparkException, Py4JJavaError)
HINT = 'Set handleInvalid to "keep" or "skip" to go on without it.'


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame(ROWS, "path string, picture binary").repartition(2)


def stage(tiny, kind=DeepImageFeaturizer, **params):
    return kind(inputCol="picture", outputCol="out", modelName=tiny, **params)


def named(result):
    return {row["path"]: row for row in result.collect()}


@pytest.mark.parametrize("mode", ["vector", "array"])
def test_keep_keeps_every_row_and_gives_a_reason_for_each_bad_one(frame, tiny, mode):
    rows = named(stage(tiny, errorCol="why", outputMode=mode).transform(frame))
    assert len(rows) == len(ROWS)
    assert {name for name, row in rows.items() if row["out"] is None} == BAD
    assert {name for name, row in rows.items() if row["why"]} == BAD
    assert "60000" in rows["huge.png"]["why"].replace(",", "")
    found = np.stack([np.array(rows[f"good{i}.png"]["out"]) for i in range(3)])
    np.testing.assert_allclose(found, reference(GOOD)["featuresAvg"], atol=1e-5)


def test_keep_is_the_default_and_needs_no_column_for_reasons(frame, tiny):
    result = stage(tiny).transform(frame)
    assert result.columns == ["path", "picture", "out"]
    assert result.where("out is null").count() == len(BAD)


def test_skip_keeps_the_good_rows_alone(frame, tiny):
    result = stage(tiny, handleInvalid="skip", errorCol="why").transform(frame)
    rows = named(result)
    assert set(rows) == {name for name, _ in ROWS} - BAD
    assert all(row["why"] is None for row in rows.values())


def test_skip_with_nothing_good_leaves_no_row(frame, tiny):
    assert stage(tiny, handleInvalid="skip").transform(frame.where("path = 'null'")).collect() == []


def test_the_predictor_treats_bad_rows_alike(frame, tiny):
    rows = named(stage(tiny, DeepImagePredictor, decodePredictions=True, errorCol="why").transform(frame))
    assert {name for name, row in rows.items() if row["out"] is None} == BAD


@pytest.mark.parametrize("name", sorted(BAD))
def test_error_stops_the_job_and_names_the_file(frame, tiny, name):
    result = stage(tiny, handleInvalid="error").transform(frame.where(f"path = '{name}'"))
    with pytest.raises(STOPPED) as caught:
        result.collect()
    assert f"Cannot use the picture {name}: " in str(caught.value)
    assert HINT in str(caught.value)


def test_the_error_of_a_row_names_its_condition_on_the_python_path(frame, tiny, face):
    if face == "jvm":
        pytest.skip("the JVM path hands Spark the exception itself, with its condition")
    with pytest.raises(PySparkException, match=r"\[SPARKDL_INVALID_ROW\] Cannot use the picture text\.jpg: "):
        stage(tiny, handleInvalid="error").transform(frame.where("path = 'text.jpg'")).collect()


def test_error_names_partition_and_row_where_no_column_names_the_file(spark, tiny):
    rows = [(encoded(GOOD[0]),), (b"no picture",)]
    frame = spark.createDataFrame(rows, "picture binary").coalesce(1)
    with pytest.raises(STOPPED, match="Cannot use the picture in partition 0, row 1: "):
        stage(tiny, handleInvalid="error").transform(frame).collect()


def test_error_names_the_origin_of_the_struct(spark, tiny):
    rows = [(image_struct(GOOD[0], "fine.png"),), (("broken.png", -1, -1, -1, -1, b""),)]
    frame = spark.createDataFrame(rows, StructType().add("picture", IMAGE_TYPE))
    with pytest.raises(STOPPED, match=r"Cannot use the picture broken\.png: "):
        stage(tiny, handleInvalid="error").transform(frame).collect()


def test_sparks_invalid_image_row_and_a_null_struct_are_invalid(spark, tiny):
    structs = [image_struct(GOOD[0]), ("x", -1, -1, -1, -1, b""), None, ("y", 9, 9, 3, 16, b"short")]
    schema = StructType().add("id", "integer").add("picture", IMAGE_TYPE)
    frame = spark.createDataFrame(list(enumerate(structs)), schema)
    rows = stage(tiny, errorCol="why").transform(frame).orderBy("id").collect()
    assert [row["out"] is None for row in rows] == [False, True, True, True]
    assert all(row["why"] for row in rows[1:])


def test_max_pixels_is_the_callers_to_set(spark, tiny):
    frame = spark.createDataFrame([("p", encoded(picture(1, 20, 20)))], "path string, picture binary")
    assert stage(tiny, maxPixels=399).transform(frame).collect()[0]["out"] is None
    assert stage(tiny, maxPixels=400).transform(frame).collect()[0]["out"] is not None
