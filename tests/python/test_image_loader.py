"""Pictures by a function of the caller's: what it gives, how it fails, how it is saved."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml import Pipeline, PipelineModel

import keras_models
from pictures import encoded, picture
from sparkdl import KerasImageFileTransformer, SparkDLValueError

keras = pytest.importorskip("keras")

EXACT = 1e-4
STOPPED = (PySparkException, Py4JJavaError)
MODULE = """
import numpy as np
from PIL import Image


def load(uri):
    return np.asarray(Image.open(uri), np.float32) / 2


class Loaders:
    @staticmethod
    def whole(uri):
        return load(uri)[None]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def pixels(folder):
    found = [picture(seed, 16, 12) for seed in range(5)]
    for number, one in enumerate(found):
        (folder / f"{number}.png").write_bytes(encoded(one))
    return np.stack(found).astype(np.float32)


@pytest.fixture(scope="module")
def frame(spark, folder, pixels):
    rows = [(number, str(folder / f"{number}.png")) for number in range(len(pixels))]
    return spark.createDataFrame(rows, "id int, uri string").repartition(2, "id")


@pytest.fixture(scope="module")
def files(folder):
    return {
        "scores": keras_models.saved(keras_models.pictures(), folder),
        "painter": keras_models.saved(keras_models.pictures(out="3"), folder, "painter.keras"),
        "open": keras_models.saved(keras_models.pictures(None, None), folder, "open.keras"),
    }


@pytest.fixture(scope="module")
def module(spark, folder):
    """A module that the driver and the workers can import."""
    with pytest.MonkeyPatch.context() as patch:
        (folder / "my_loaders.py").write_text(MODULE)
        patch.syspath_prepend(str(folder))
        spark.addArtifacts(str(folder / "my_loaders.py"), pyfile=True)
        yield "my_loaders"


def stage(file, loader, **params):
    return KerasImageFileTransformer(
        inputCol="uri", outputCol="out", modelFile=file, imageLoader=loader, **params
    )


def halved():
    def load(uri):
        return np.asarray(Image.open(uri), np.float32) / 2

    return load


def values(frame):
    return np.stack([np.asarray(row["out"]) for row in frame.orderBy("id").collect()])


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array,
        lambda array: array[None],
        lambda array: array.astype(np.float64),
        lambda array: array.tolist(),
    ],
    ids=["array", "leading one", "doubles", "lists"],
)
def test_the_model_gets_what_the_function_gives(files, frame, pixels, change):
    load = halved()
    found = values(stage(files["scores"], lambda uri: change(load(uri))).transform(frame))
    theirs = keras_models.outputs_of(keras_models.pictures(), [pixels / 2])[0]
    np.testing.assert_allclose(found, theirs, atol=EXACT)


def test_whole_numbers_become_floats(files, frame, pixels):
    found = values(stage(files["scores"], lambda uri: np.asarray(Image.open(uri))).transform(frame))
    theirs = keras_models.outputs_of(keras_models.pictures(), [pixels])[0]
    np.testing.assert_allclose(found, theirs, atol=EXACT)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_arrays_and_images_come_out_too(files, frame, pixels, batch_size):
    theirs = keras_models.outputs_of(keras_models.pictures(out="3"), [pixels / 2])[0]
    found = stage(files["painter"], halved(), outputMode="array", batchSize=batch_size).transform(frame)
    np.testing.assert_allclose(values(found), theirs.reshape(len(pixels), -1), atol=EXACT)
    found = stage(files["painter"], halved(), outputMode="image", batchSize=batch_size).transform(frame)
    for row, painted in zip(found.orderBy("id").collect(), theirs, strict=True):
        image = row["out"]
        assert (image["origin"], image["height"], image["width"], image["mode"]) == (row["uri"], 16, 12, 21)
        bgr = np.frombuffer(image["data"], "<f4").reshape(16, 12, 3)
        np.testing.assert_allclose(bgr[..., ::-1], painted, atol=EXACT)


def test_pictures_may_differ_in_size_where_the_model_takes_any(files, frame, pixels):
    def load(uri):
        number = int(uri.rsplit("/", 1)[-1].split(".")[0])
        return np.asarray(Image.open(uri), np.float32)[: 8 + number, : 12 - number]

    found = values(stage(files["open"], load).transform(frame))
    for number, scores in enumerate(found):
        part = pixels[number : number + 1, : 8 + number, : 12 - number]
        np.testing.assert_allclose(scores, np.asarray(keras_models.pictures(None, None)(part))[0], atol=EXACT)


def test_the_function_may_be_given_by_its_importable_name(files, frame, pixels, module):
    theirs = keras_models.outputs_of(keras_models.pictures(), [pixels / 2])[0]
    for name in (f"{module}:load", f"{module}:Loaders.whole"):
        found = values(stage(files["scores"], name).transform(frame))
        np.testing.assert_allclose(found, theirs, atol=EXACT)


def fails(uri):
    number = int(uri.rsplit("/", 1)[-1].split(".")[0])
    fine = np.zeros((16, 12, 3), np.float32)
    wrong = [
        fine,
        None,
        "a text",
        np.zeros((12, 16, 3)),
        np.zeros((16, 12)),
    ]
    return wrong[number]


REASONS = [
    None,
    "imageLoader gave None",
    "imageLoader gave str, not an array of numbers",
    "imageLoader gave the shape [12, 16, 3], but the model takes [16, 12, 3]",
    "imageLoader gave the shape [16, 12], but the model takes [16, 12, 3]",
]


def test_what_is_no_picture_for_the_model_is_an_invalid_row(spark, files, frame, folder):
    def local(uri):
        return by_value(uri)

    by_value = type(fails)(fails.__code__, {"np": np})
    rows = stage(files["scores"], local, errorCol="why").transform(frame).orderBy("id").collect()
    found = [row["why"] for row in rows]
    assert found == [reason and f"{folder}/{n}.png: {reason}" for n, reason in enumerate(REASONS)]
    assert [row["out"] is None for row in rows] == [False, True, True, True, True]
    missing = spark.createDataFrame([(None,)], "uri string")
    assert stage(files["scores"], local, errorCol="why").transform(missing).first()["why"] == "null"


def test_what_the_function_raises_is_the_reason(files, frame, folder):
    def load(uri):
        if uri.endswith("3.png"):
            raise KeyError("no label for it")
        return np.zeros((16, 12, 3))

    rows = stage(files["scores"], load, errorCol="why").transform(frame).orderBy("id").collect()
    reason = f"{folder}/3.png: imageLoader raised KeyError: 'no label for it'"
    assert [row["why"] for row in rows] == [None, None, None, reason, None]
    assert len(stage(files["scores"], load, handleInvalid="skip").transform(frame).collect()) == 4
    with pytest.raises(STOPPED) as caught:
        stage(files["scores"], load, handleInvalid="error").transform(frame).collect()
    assert f"Cannot use the picture {reason}. Set handleInvalid" in str(caught.value)


def test_the_function_is_never_called_twice_at_a_time(files, frame):
    import threading

    def load(uri):
        import time

        if not lock.acquire(blocking=False):
            raise RuntimeError("called twice")
        time.sleep(0.01)
        lock.release()
        return np.zeros((16, 12, 3))

    class Lock:
        """A lock that travels: each process has one of its own."""

        def __getattr__(self, name):
            globals().setdefault("_the_lock", threading.Lock())
            return getattr(globals()["_the_lock"], name)

    lock = Lock()
    rows = stage(files["scores"], load, errorCol="why").transform(frame).collect()
    assert [row["why"] for row in rows] == [None] * 5


def refusal(action, *arguments):
    with pytest.raises(SparkDLValueError) as caught:
        action(*arguments)
    assert caught.value.kind == "InvalidArgument"
    return str(caught.value)


def test_params_that_the_function_makes_pointless_are_refused(files, frame, runs_no_job):
    found = refusal(stage(files["scores"], halved(), preprocessing="tf").transform, frame)
    assert found == (
        "The imageLoader gives pictures as the model takes them, so preprocessing does nothing: clear one of "
        "the two."
    )
    assert "channelOrder" in refusal(stage(files["scores"], halved(), channelOrder="BGR").transform, frame)


def test_what_is_no_function_is_refused(spark, files, frame, runs_no_job):
    assert refusal(stage, files["scores"], 7) == (
        'imageLoader must be a function of a URI, or its importable name "module:function", but was 7.'
    )
    found = refusal(stage(files["scores"], "no_such_module:load").transform, frame)
    assert found.startswith("The imageLoader no_such_module:load cannot be imported: No module named ")
    found = refusal(stage(files["scores"], "json:no_such").transform, frame)
    assert found.startswith("The imageLoader json:no_such cannot be imported: ")
    assert refusal(stage(files["scores"], "math:pi").transform, frame) == (
        "The imageLoader math:pi is no function but of type float."
    )


def test_a_stage_holds_the_importable_name_alone(spark, files, frame, module, pixels, tmp_path):
    import my_loaders

    path = str(tmp_path / "stage")
    stage(files["scores"], my_loaders.load).save(path)
    metadata = json.loads(spark.read.text(f"{path}/metadata").first()[0])
    assert metadata["paramMap"]["imageLoader"] == "my_loaders:load"
    loaded = KerasImageFileTransformer.load(path)
    assert loaded.getImageLoader() == "my_loaders:load"
    theirs = keras_models.outputs_of(keras_models.pictures(), [pixels / 2])[0]
    np.testing.assert_allclose(values(loaded.transform(frame)), theirs, atol=EXACT)
    again = str(tmp_path / "again")
    loaded.write().overwrite().save(again)
    assert KerasImageFileTransformer.load(again).getImageLoader() == "my_loaders:load"


def test_a_pipeline_with_a_function_is_saved_and_loads(spark, files, frame, module, pixels, tmp_path):
    import my_loaders

    model = Pipeline(stages=[stage(files["scores"], my_loaders.Loaders.whole)]).fit(frame)
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    theirs = keras_models.outputs_of(keras_models.pictures(), [pixels / 2])[0]
    np.testing.assert_allclose(values(loaded.transform(frame)), theirs, atol=EXACT)


class Loader:
    def __call__(self, uri):
        return uri


@pytest.mark.parametrize(
    ("loader", "what"),
    [
        (lambda uri: uri, "is <lambda>, a lambda"),
        (halved(), "is halved.<locals>.load, defined inside of a function"),
        (Loader(), "is an object of type Loader"),
        (io.BytesIO().write, ""),
    ],
    ids=["lambda", "nested", "object", "method"],
)
def test_a_function_without_an_importable_name_cannot_be_saved(files, loader, what, tmp_path):
    found = refusal(stage(files["scores"], loader).save, str(tmp_path / "stage"))
    assert found.startswith(f"This imageLoader cannot be saved: it {what}")
    assert "Define it at the top level of a module, and set that function or its name." in found
    assert not (tmp_path / "stage").exists()


def test_setting_a_function_later_leaves_the_jvm_path(files, frame, pixels):
    late = KerasImageFileTransformer(inputCol="uri", outputCol="out", modelFile=files["scores"])
    late.setImageLoader(halved())
    theirs = keras_models.outputs_of(keras_models.pictures(), [pixels / 2])[0]
    np.testing.assert_allclose(values(late.transform(frame)), theirs, atol=EXACT)
    np.testing.assert_allclose(values(late.copy().transform(frame)), theirs, atol=EXACT)
    plain = stage(files["scores"], halved())
    plain.clear(plain.imageLoader)
    found = plain.transform(frame, {plain.imageLoader: halved()})
    np.testing.assert_allclose(values(found), theirs, atol=EXACT)
    never = KerasImageFileTransformer(inputCol="uri", outputCol="out", modelFile=files["scores"])
    found = never.transform(frame, {never.imageLoader: halved()})
    np.testing.assert_allclose(values(found), theirs, atol=EXACT)
