"""KerasImageFileEstimator: labelled picture files, decoded once, against Keras itself."""

import re
from pathlib import Path

import numpy as np
import pytest

import keras_models
from pictures import encoded, picture
from sparkdl import KerasImageFileEstimator, KerasImageFileModel, SparkDLError
from sparkdl.estimators import work

keras = pytest.importorskip("keras")

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    for n in range(COUNT):
        (place / f"{n}.png").write_bytes(encoded(picture(n, 16, 12)))
    (place / "broken.png").write_bytes(b"not a picture")
    return place


@pytest.fixture(scope="module")
def frame(spark, folder):
    rows = [(n, str(folder / f"{n}.png"), n % 2) for n in range(COUNT)]
    return spark.createDataFrame(rows, "id int, uri string, label int").repartition(2, "id")


@pytest.fixture(scope="module")
def file(folder):
    return keras_models.saved(keras_models.pictures(), folder, "eye.keras")


@pytest.fixture(scope="module")
def estimator(file, tmp_path_factory):
    return KerasImageFileEstimator(
        inputCol="uri",
        outputCol="scores",
        modelFile=file,
        kerasLoss="mse",
        learningRate=0.01,
        trainableLayers=["scores"],
        preprocessing="tf",
        epochs=2,
        batchSize=4,
        seed=3,
        kerasFitParams={"verbose": 0},
        workDir=str(tmp_path_factory.mktemp("work")),
    )


@pytest.fixture(scope="module")
def fitted(estimator, frame):
    return estimator.fit(frame)


def decoded(estimator, spark):
    """The keys of the pictures in the working folder."""
    place = f"{estimator.getWorkDir()}/pictures"
    rows = spark.read.option("recursiveFileLookup", "true").parquet(place)
    return [row["key"] for row in rows.select("key").collect()]


def test_only_the_named_layer_has_changed(fitted, file):
    before = keras.saving.load_model(file, compile=False)
    after = keras.saving.load_model(fitted.getModelFile(), compile=False)
    for layer in before.layers:
        pairs = zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True)
        same = [np.array_equal(one, other) for one, other in pairs]
        assert same == [layer.name != "scores"] * len(same)
        assert after.get_layer(layer.name).trainable == layer.trainable


def test_scores_are_those_of_keras_and_predictions_the_best(fitted, frame):
    assert isinstance(fitted, KerasImageFileModel)
    pixels = np.stack([picture(n, 16, 12) for n in range(COUNT)]).astype(np.float32) / 127.5 - 1
    model = keras.saving.load_model(fitted.getModelFile(), compile=False)
    rows = fitted.transform(frame).orderBy("id").collect()
    found = np.stack([row["scores"].toArray() for row in rows])
    np.testing.assert_allclose(found, model.predict(pixels, verbose=0), atol=1e-4)
    assert [row["prediction"] for row in rows] == found.argmax(1).astype(float).tolist()
    assert "labelIndex" not in rows[0]  # the label is an index itself


def test_training_sees_the_pixels_that_scoring_sees(fitted, file):
    """The same steps in a plain loop over pictures that Pillow decoded."""
    import hashlib

    from sparkdl.estimators.feeding import epoch_order

    files = [encoded(picture(n, 16, 12)) for n in range(COUNT)]
    order = sorted(range(COUNT), key=lambda n: hashlib.sha256(files[n]).digest())
    x = np.stack([picture(n, 16, 12) for n in order]).astype(np.float32) / 127.5 - 1
    y = np.eye(2, dtype=np.float32)[[n % 2 for n in order]]
    keras.utils.set_random_seed(3)
    model = keras.saving.load_model(file, compile=False)
    for layer in model.layers:
        layer.trainable = layer.name == "scores"
    model.compile("adam", "mse")
    model.optimizer.learning_rate = 0.01
    for epoch in range(2):
        o = epoch_order(COUNT, 3, epoch)
        model.fit(x[o], y[o], batch_size=4, shuffle=False, verbose=0)
    ours = keras.saving.load_model(fitted.getModelFile(), compile=False)
    for mine, yours in zip(ours.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-5)


def test_pictures_are_decoded_once_and_finished_trials_taken_up(fitted, estimator, frame, spark):
    assert len(decoded(estimator, spark)) == COUNT
    again = estimator.fit(frame.where("id < 20"))
    assert len(decoded(estimator, spark)) == COUNT
    # The very same trial: also its seconds.
    assert again.history == fitted.history
    assert again.getModelFile() == fitted.getModelFile()


@pytest.mark.once
@pytest.mark.long
def test_what_cannot_be_used_is_left_out_and_counted(estimator, frame, folder, spark, caplog):
    bad = [(90, str(folder / "broken.png"), 1), (91, "nowhere.png", 0), (92, None, 1)]
    bad.append((93, str(folder / "0.png"), None))
    mixed = frame.union(spark.createDataFrame(bad, "id int, uri string, label int"))
    with pytest.raises(SparkDLError, match=re.escape("4 of 16 rows cannot be trained on")):
        estimator.copy({estimator.handleInvalid: "error"}).fit(mixed)
    caplog.clear()
    model = estimator.copy({estimator.epochs: 1}).fit(mixed)
    assert "4 of 16 rows cannot be trained on and are left out" in caplog.text
    # What was decoded before is not again; what could not be is known.
    assert len(decoded(estimator, spark)) == COUNT + 1
    assert model.transform(mixed).count() == COUNT + 1


def load(uri):
    return np.full((16, 12, 3), float(Path(uri).stem), np.float32)


@pytest.mark.once
@pytest.mark.long
def test_a_function_of_the_callers_may_load_pictures(estimator, file, spark):
    numbers = spark.createDataFrame([(str(n), n % 2) for n in range(6)], "uri string, label int")
    own = KerasImageFileEstimator(
        inputCol="uri",
        outputCol="scores",
        modelFile=file,
        imageLoader=lambda uri: np.full((16, 12, 3), float(uri), np.float32),
        kerasLoss="sparse_categorical_crossentropy",
        seed=1,
        kerasFitParams={"verbose": 0},
    )
    rows = own.fit(numbers).transform(numbers).orderBy("uri").collect()
    assert len({row["scores"] for row in rows}) == 6


@pytest.mark.once
def test_without_a_folder_a_temporary_one_is_of_the_session(spark):
    assert work.folder(spark, None) == work.folder(spark, None)
    assert work.is_local(spark)
    assert work.slots(spark) == 2
