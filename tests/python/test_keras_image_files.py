"""KerasImageFileTransformer: files by their URIs through Keras models, against Keras itself."""

import numpy as np
import pytest
from PIL import Image
from pyspark.ml.linalg import DenseVector
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

import keras_models
from pictures import encoded, picture
from sparkdl import KerasImageFileTransformer
from sparkdl.transformers.picture_columns import IMAGE_TYPE

keras = pytest.importorskip("keras")

EXACT = 1e-4  # numbers up to 30 and more
COUNT = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def pixels(folder):
    """RGB pixels of the model's own size, which are also files `0.png` …"""
    found = [picture(seed, 16, 12) for seed in range(COUNT)]
    for number, one in enumerate(found):
        (folder / f"{number}.png").write_bytes(encoded(one))
    return np.stack(found).astype(np.float32)


@pytest.fixture(scope="module")
def frame(spark, folder, pixels):
    rows = [(number, str(folder / f"{number}.png")) for number in range(COUNT)]
    return spark.createDataFrame(rows, "id int, uri string").repartition(2, "id")


@pytest.fixture(scope="module")
def files(folder):
    """Models as files, by name."""
    makers = {
        "scores": keras_models.pictures,
        "open": lambda: keras_models.pictures(None, None),
        "grey": lambda: keras_models.pictures(channels=1),
        "painter": lambda: keras_models.pictures(out="3"),
        "open painter": lambda: keras_models.pictures(None, None, out="4"),
    }
    return {name: keras_models.saved(make(), folder, f"{name}.keras") for name, make in makers.items()}


def stage(file, **params):
    return KerasImageFileTransformer(inputCol="uri", outputCol="out", modelFile=file, **params)


def values(frame):
    return np.stack([np.asarray(row["out"]) for row in frame.orderBy("id").collect()])


def expected(model, pixels):
    return keras_models.outputs_of(model, [pixels])[0]


def test_vectors_are_keras_own(files, frame, pixels):
    result = stage(files["scores"]).transform(frame)
    assert result.schema["out"].metadata == {"ml_attr": {"num_attrs": 2}}
    assert isinstance(result.first()["out"], DenseVector)
    np.testing.assert_allclose(values(result), expected(keras_models.pictures(), pixels), atol=EXACT)


def test_arrays_are_of_floats(files, frame, pixels):
    result = stage(files["painter"], outputMode="array").transform(frame)
    assert result.schema["out"].dataType == ArrayType(FloatType(), False)
    theirs = expected(keras_models.pictures(out="3"), pixels)
    np.testing.assert_allclose(values(result), theirs.reshape(COUNT, -1), atol=EXACT)


@pytest.mark.parametrize(("name", "channels", "mode"), [("painter", 3, 21), ("open painter", 4, 29)])
def test_images_are_sparks_struct_of_floats_with_the_uri_as_origin(
    files, frame, pixels, name, channels, mode
):
    size = {"inputSize": [16, 12]} if name.startswith("open") else {}
    result = stage(files[name], outputMode="image", **size).transform(frame)
    assert result.schema["out"].dataType == IMAGE_TYPE
    theirs = expected(keras_models.pictures(out=str(channels)), pixels)
    for row, painted in zip(result.orderBy("id").collect(), theirs, strict=True):
        image = row["out"]
        assert image["origin"] == row["uri"]
        assert (image["height"], image["width"], image["nChannels"], image["mode"]) == (
            16,
            12,
            channels,
            mode,
        )
        found = np.frombuffer(image["data"], "<f4").reshape(16, 12, channels)
        np.testing.assert_allclose(found[..., [2, 1, 0, *range(3, channels)]], painted, atol=EXACT)


MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("params", "prepared"),
    [
        ({"preprocessing": "tf"}, lambda x: x / 127.5 - 1),
        ({"preprocessing": "torch"}, lambda x: (x / 255 - MEAN) / DEVIATION),
        ({"preprocessing": "caffe"}, lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
        (
            {"preprocessing": "caffe", "channelOrder": "RGB"},
            lambda x: x - [123.68, 116.779, 103.939],
        ),
        ({"channelOrder": "BGR"}, lambda x: x[..., ::-1]),
    ],
    ids=["tf", "torch", "caffe", "caffe-RGB", "BGR"],
)
def test_pixels_are_preprocessed_as_keras_does(files, frame, pixels, params, prepared):
    theirs = expected(keras_models.pictures(), prepared(pixels).astype(np.float32))
    np.testing.assert_allclose(values(stage(files["scores"], **params).transform(frame)), theirs, atol=EXACT)


@pytest.mark.parametrize("params", [{}, {"channelOrder": "L"}], ids=["unset", "L"])
def test_a_model_of_one_channel_gets_grey(files, frame, pixels, params):
    grey = np.stack([np.asarray(Image.fromarray(one.astype(np.uint8)).convert("L")) for one in pixels])
    theirs = expected(keras_models.pictures(channels=1), grey[..., None].astype(np.float32))
    # Two ways to round a weighted sum: one level of grey.
    np.testing.assert_allclose(values(stage(files["grey"], **params).transform(frame)), theirs, atol=0.05)


def test_a_model_of_any_size_takes_the_size_that_is_set(files, frame, pixels):
    found = values(stage(files["open"], inputSize=[8, 6]).transform(frame))
    small = [
        np.asarray(Image.fromarray(one.astype(np.uint8)).resize((6, 8), Image.Resampling.BOX))
        for one in pixels
    ]
    theirs = expected(keras_models.pictures(None, None), np.stack(small).astype(np.float32))
    np.testing.assert_allclose(found, theirs, atol=0.05)


def test_the_batch_size_and_the_partitions_change_nothing(files, frame, pixels):
    theirs = expected(keras_models.pictures(), pixels)
    for size in (1, 3, 100):
        result = stage(files["scores"], batchSize=size).transform(frame.coalesce(1))
        np.testing.assert_allclose(values(result), theirs, atol=EXACT)


def test_many_files_keep_their_order(spark, files, frame, folder, pixels):
    theirs = expected(keras_models.pictures(), pixels)
    numbers = [(n, str(folder / f"{n % COUNT}.png")) for n in range(300)]
    many = spark.createDataFrame(numbers, "id int, uri string").coalesce(1)
    found = values(stage(files["scores"]).transform(many))
    np.testing.assert_allclose(found, theirs[np.arange(300) % COUNT], atol=EXACT)


ODD_NAMES = ["a blank.png", "fünf é.png", "per%20cent.png", "hash#mark?.png", "plus+and&.png", "100%.png"]


@pytest.fixture(scope="module")
def odd(folder, pixels):
    place = folder / "odd ö%41"
    place.mkdir()
    for name in ODD_NAMES:
        (place / name).write_bytes(encoded(pixels[0].astype(np.uint8)))
    return place


def assert_all_read(stage, frame, count):
    rows = stage.setErrorCol("why").transform(frame).collect()
    assert len(rows) == count
    assert [(row["uri"], row["why"]) for row in rows if row["why"]] == []


def test_files_are_found_by_plain_paths_and_by_uris_of_every_spelling(spark, files, odd):
    paths = [str(odd / name) for name in ODD_NAMES]
    uris = [*paths, *(f"file:{path}" for path in paths), *((odd / name).as_uri() for name in ODD_NAMES)]
    frame = spark.createDataFrame([(uri,) for uri in uris], "uri string")
    assert_all_read(stage(files["scores"]), frame, len(uris))


def test_files_are_found_by_what_spark_calls_them(spark, files, odd):
    listed = spark.read.format("binaryFile").load(str(odd.parent / "odd*"))
    assert_all_read(stage(files["scores"]), listed.select(F.col("path").alias("uri")), len(ODD_NAMES))
    named = listed.select(F.col("_metadata.file_path").alias("uri"))
    assert_all_read(stage(files["scores"]), named, len(ODD_NAMES))
    texts = spark.read.text(str(odd.parent / "odd*"), wholetext=True)
    assert_all_read(stage(files["scores"]), texts.select(F.input_file_name().alias("uri")), len(ODD_NAMES))


def test_a_stream_is_transformed(spark, files, pixels, folder, tmp_path):
    rows = [(number, str(folder / f"{number}.png")) for number in range(COUNT)]
    written = spark.createDataFrame(rows, "id int, uri string")
    written.write.parquet(str(tmp_path / "rows"))
    stream = spark.readStream.schema(written.schema).parquet(str(tmp_path / "rows"))
    result = stage(files["scores"]).transform(stream)
    writer = result.writeStream.format("memory").queryName("stream_of_files")
    writer.trigger(availableNow=True).start().awaitTermination()
    theirs = expected(keras_models.pictures(), pixels)
    np.testing.assert_allclose(values(spark.table("stream_of_files")), theirs, atol=EXACT)


def test_names_with_dots_and_other_columns_pass_through(spark, files, folder, pixels):
    frame = spark.createDataFrame([(1, 1, str(folder / "0.png"))], ["id", "id", "u.r.i"])
    result = stage(files["scores"]).setInputCol("u.r.i").setOutputCol("o.ut").transform(frame)
    assert result.columns == ["id", "id", "u.r.i", "o.ut"]
    assert result.collect()[0][3] is not None


def test_no_rows_and_empty_partitions_are_fine(files, frame):
    assert stage(files["scores"]).transform(frame.limit(0)).collect() == []
    sparse = frame.where("id = 3").repartition(8, "id")
    assert len(stage(files["scores"]).transform(sparse).collect()) == 1


def test_transform_itself_runs_nothing(files, frame, runs_no_job):
    stage(files["scores"]).transform(frame)
