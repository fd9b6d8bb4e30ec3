"""Files that cannot be read or decoded, and models and params that do not go with files."""

import os

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

import keras_models
from pictures import TINY, encoded, huge_header, picture
from sparkdl import KerasImageFileTransformer, SparkDLValueError

keras = pytest.importorskip("keras")

STOPPED = (PySparkException, Py4JJavaError)
HINT = 'Set handleInvalid to "keep" or "skip" to go on without it.'
GOOD = ("good.png", "good too.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    for name in GOOD:
        (place / name).write_bytes(encoded(picture(len(name), 16, 12)))
    (place / "text.jpg").write_text("no picture" * 20)
    (place / "empty.png").write_bytes(b"")
    (place / "cut.jpg").write_bytes(encoded(picture(1, 90, 90), "JPEG")[:600])
    (place / "huge.png").write_bytes(huge_header())
    (place / "folder.png").mkdir()
    with (place / "large.png").open("wb") as file:
        file.truncate((256 << 20) + 1)
    os.mkfifo(place / "pipe.png")
    return place


@pytest.fixture(scope="module")
def model(folder):
    return keras_models.saved(keras_models.pictures(), folder)


@pytest.fixture(scope="module")
def bad(folder):
    """URIs, and the beginning of what is said of each."""
    return {
        f"{folder}/missing.png": "there is no such file",
        f"file://{folder}/missing%20too.png": "there is no such file",
        f"{folder}/good.png/inside.png": "there is no such file",
        f"{folder}/folder.png": "it is a folder",
        f"{folder}/large.png": "it is larger than 268435456 bytes",
        f"{folder}/empty.png": "empty value",
        f"{folder}/text.jpg": "",
        f"{folder}/cut.jpg": "",
        f"{folder}/huge.png": "",
        "": "",
    }


@pytest.fixture(scope="module")
def frame(spark, folder, bad):
    uris = [*(f"{folder}/{name}" for name in GOOD), *bad, None]
    return spark.createDataFrame([(uri,) for uri in uris], "uri string").repartition(2)


def stage(file, **params):
    return KerasImageFileTransformer(inputCol="uri", outputCol="out", modelFile=file, **params)


def test_keep_gives_a_reason_that_names_the_uri_for_each_bad_file(model, frame, folder, bad):
    rows = stage(model, errorCol="why").transform(frame).collect()
    reasons = {row["uri"]: row["why"] for row in rows if row["why"]}
    assert set(reasons) == {*bad, None}
    assert reasons.pop(None) == "null"
    for uri, reason in reasons.items():
        assert reason.startswith(f"{uri}: {bad[uri]}" if uri else bad[uri])
    assert {row["uri"] for row in rows if row["out"] is not None} == {f"{folder}/{name}" for name in GOOD}


def test_skip_keeps_the_good_files_alone(model, frame, folder):
    rows = stage(model, handleInvalid="skip").transform(frame).collect()
    assert {row["uri"] for row in rows} == {f"{folder}/{name}" for name in GOOD}


@pytest.mark.parametrize("name", ["missing.png", "text.jpg"])
def test_error_stops_the_job_and_names_the_uri(spark, model, folder, name):
    frame = spark.createDataFrame([(f"{folder}/{name}",)], "uri string")
    with pytest.raises(STOPPED) as caught:
        stage(model, handleInvalid="error").transform(frame).collect()
    assert f"Cannot use the picture {folder}/{name}: " in str(caught.value)
    assert HINT in str(caught.value)


def test_error_names_the_place_of_a_null(spark, model):
    frame = spark.createDataFrame([(None,)], "uri string").coalesce(1)
    with pytest.raises(STOPPED, match=r"Cannot use the picture in partition 0, row 0: null\. Set"):
        stage(model, handleInvalid="error").transform(frame).collect()


def test_a_pipe_is_no_file(spark, model, folder, face):
    if face == "jvm":
        pytest.skip("Hadoop's local file system reads pipes")
    frame = spark.createDataFrame([(f"{folder}/pipe.png",)], "uri string")
    row = stage(model, errorCol="why").transform(frame).first()
    assert row["why"] == f"{folder}/pipe.png: it is no file but a device or a pipe"


def test_a_scheme_that_needs_a_package_stops_the_job_and_names_the_package(spark, model, face):
    if face == "jvm":
        pytest.skip("Hadoop's file systems open URIs there")
    frame = spark.createDataFrame([("sftp://somewhere/a.png",)], "uri string")
    with pytest.raises(PySparkException) as caught:
        stage(model).transform(frame).collect()
    assert "[SPARKDL_IO] Nothing in the Python of the workers opens sftp://somewhere/a.png" in str(
        caught.value
    )
    assert "pip install fsspec paramiko there for URIs of the scheme sftp" in str(caught.value)


def refusal(stage, frame):
    with pytest.raises(SparkDLValueError) as caught:
        stage.transform(frame)
    assert caught.value.kind == "InvalidArgument"
    return str(caught.value)


@pytest.fixture(scope="module")
def models(folder):
    """A file for each way in which a model does not go with files."""
    layers = keras.layers
    numbers = keras.Input((3,), name="numbers")
    one, two = (keras.Input((4, 4, 3), name=name) for name in ("one", "two"))
    whole = keras.Input((4, 4, 3), dtype="uint8", name="whole")
    twice = keras.Input((4, 4, 3), name="twice")
    flat = layers.Flatten(name="flat")
    made = {
        "numbers": keras.Model(numbers, layers.Dense(2, name="scores")(numbers), name="m"),
        "two in": keras.Model([one, two], layers.Add(name="sum")([one, two]), name="m"),
        "two out": keras.Model(twice, [flat(twice), layers.Dense(2, name="scores")(flat(twice))], name="m"),
        "bytes": keras.Model(whole, layers.Rescaling(2.0, name="scaled")(whole), name="m"),
        "open": keras_models.pictures(None, None, out="3"),
        "grey": keras_models.pictures(channels=1),
    }
    return {name: keras_models.saved(model, folder, f"{name}.keras") for name, model in made.items()}


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        (
            "numbers",
            {},
            "The input numbers of the model m has the shape [3] and the type float32, but pictures need "
            "[height, width, 1 or 3] of float32: use KerasTransformer.",
        ),
        (
            "bytes",
            {},
            "The input whole of the model m has the shape [4, 4, 3] and the type uint8, but pictures need "
            "[height, width, 1 or 3] of float32: use KerasTransformer.",
        ),
        (
            "two in",
            {},
            "The model m has 2 inputs (one, two) but KerasImageFileTransformer takes models of one: use "
            "KerasTransformer.",
        ),
        (
            "two out",
            {},
            "The model m has 2 outputs (flat, scores) but KerasImageFileTransformer takes models of one: use "
            "KerasTransformer.",
        ),
        ("open", {}, "The model eye takes pictures of any size: set inputSize."),
        (
            "scores",
            {"inputSize": [9, 9]},
            "The model eye takes pictures of 16 x 12, but inputSize is 9 x 9: leave inputSize unset.",
        ),
        (
            "scores",
            {"channelOrder": "L"},
            "The model eye takes 3 channels, but channelOrder is L: leave channelOrder unset.",
        ),
        (
            "grey",
            {"channelOrder": "RGB"},
            "The model eye takes 1 channel, but channelOrder is RGB: leave channelOrder unset.",
        ),
        (
            "grey",
            {"preprocessing": "torch"},
            'The model eye takes 1 channel, but preprocessing torch needs 3: set preprocessing to "none" or '
            '"tf".',
        ),
        (
            "scores",
            {"outputMode": "image"},
            "The output scores of the model eye has the shape [2], but outputMode image needs [height, "
            'width, 1, 3 or 4]: set outputMode to "vector" or "array".',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 10 else None,
)
def test_a_model_that_takes_no_picture_files_is_refused(
    frame, model, models, name, params, message, runs_no_job
):
    assert refusal(stage(models.get(name, model), **params), frame) == message


def test_columns_and_params_are_checked(spark, model, frame, runs_no_job):
    assert refusal(KerasImageFileTransformer(modelFile=model), frame) == (
        "KerasImageFileTransformer needs the param inputCol: set it first."
    )
    assert refusal(KerasImageFileTransformer(inputCol="uri"), frame) == (
        "KerasImageFileTransformer needs the param modelFile: set it first."
    )
    assert refusal(stage(model).setInputCol("x"), frame) == (
        "Column x does not exist. Available columns: uri."
    )
    assert refusal(stage(model).setOutputCol("uri"), frame) == "Column uri already exists."
    numbers = spark.range(1).toDF("uri")
    assert refusal(stage(model), numbers) == (
        "Column uri must be of type string (the URI of a picture file) but was actually bigint."
    )
    assert refusal(stage(str(TINY)), frame).startswith(
        f"KerasImageFileTransformer takes models on tensors, but {TINY} is a bundle for pictures: "
    )


def test_an_output_of_an_open_size_is_refused(frame, folder, runs_no_job):
    given = keras.Input((None, 4, 3), name="picture")
    open_bundle = keras.Model(given, keras.layers.Rescaling(1.0, name="same")(given), name="m")
    file = keras_models.saved(open_bundle, folder, "half open.keras")
    found = refusal(stage(file), frame)
    assert found == "The model m takes pictures of any size: set inputSize."
    rows = stage(file, inputSize=[16, 4]).transform(frame)
    assert rows.schema["out"].metadata == {"ml_attr": {"num_attrs": 16 * 4 * 3}}
