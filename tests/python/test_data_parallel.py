"""One model trained by several tasks: what one task gives, and what cannot be had then."""

import numpy as np
import pytest

import keras_models
from sparkdl import KerasEstimator, SparkDLError, SparkDLValueError

keras = pytest.importorskip("keras")
helpers = pytest.importorskip("training_helpers")

ROWS = 37

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def frame(spark):
    spark.addArtifacts(helpers.__file__, pyfile=True)
    numbers = np.random.default_rng(4).normal(size=(ROWS, 3))
    rows = [
        ([float(v) for v in row], "up" if row.sum() > 0 else "down", 1.0 + n % 3)
        for n, row in enumerate(numbers)
    ]
    return spark.createDataFrame(rows, "x array<double>, side string, weight double").coalesce(2).cache()


@pytest.fixture(scope="module")
def estimator(tmp_path_factory):
    keras.utils.set_random_seed(6)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(8, "relu", kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.Dense(2, "softmax"),
        ]
    )
    # What an optimizer clips must be the gradient of the whole batch.
    optimizer = keras.optimizers.Adam(0.05, clipnorm=0.1)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy", "AUC"])
    return KerasEstimator(
        inputCol="x",
        outputCol="scores",
        labelCol="side",
        weightCol="weight",
        modelFile=keras_models.saved(model, tmp_path_factory.mktemp("together")),
        epochs=4,
        batchSize=7,  # 30 rows to train on: the last batch has two, and others no equal shares
        validationFraction=0.19,
        classWeights={"up": 2.0, "down": 0.5},
        earlyStopping={"patience": 3},
        seed=2,
        kerasFitParams={"verbose": 0},
    )


def test_two_workers_give_what_one_gives(estimator, frame):
    alone, together = (estimator.copy({estimator.numWorkers: n}).fit(frame) for n in (1, 2))
    assert len(alone.history) == 4
    assert set(alone.history[0]) >= {"loss", "accuracy", "AUC", "val_loss", "val_accuracy", "val_AUC"}
    for one, two in zip(alone.history, together.history, strict=True):
        assert set(one) == set(two)
        for name in set(one) - {"seconds"}:
            assert two[name] == pytest.approx(one[name], abs=1e-5), name
    mine, theirs = (keras.saving.load_model(m.getModelFile(), compile=False) for m in (together, alone))
    for found, expected in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.long
def test_a_worker_without_rows_takes_part(estimator, frame):
    few = estimator.copy({estimator.batchSize: 1, estimator.epochs: 1, estimator.validationFraction: 0.05})
    alone, together = (few.copy({few.numWorkers: n}).fit(frame.limit(9)) for n in (1, 2))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert together.history[0][name] == pytest.approx(alone.history[0][name], abs=1e-5), name


@pytest.mark.long
def test_a_worker_that_fails_is_told_and_the_others_end(frame):
    layers = [keras.Input((3,)), helpers.Faulty(), keras.layers.Dense(2, "softmax")]
    failing = KerasEstimator(
        inputCol="x",
        outputCol="scores",
        labelCol="side",
        modelFile=keras.Sequential(layers),
        customObjects={"tests>Faulty": "training_helpers.Faulty"},
        kerasLoss="categorical_crossentropy",
        numWorkers=2,
        kerasFitParams={"verbose": 0},
    )
    with pytest.raises(SparkDLError, match="the second worker fails"):
        failing.fit(frame)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kerasCallbacks": ["TerminateOnNaN"]}, "with several workers kerasCallbacks is not supported"),
        ({"kerasFitParams": {"steps_per_epoch": 2}}, "kerasFitParams with steps_per_epoch is not supported"),
    ],
    ids=["callbacks", "steps"],
)
def test_what_several_workers_cannot_do_is_refused_before_any_job(
    estimator, frame, runs_no_job, change, said
):
    with pytest.raises(SparkDLValueError, match=said):
        estimator.copy({estimator.numWorkers: 2})._set(**change).fit(frame)


def test_more_workers_than_slots_are_refused_before_any_job(estimator, frame, face, request):
    if face != "connect":  # There a small query tells how many slots the server has.
        request.getfixturevalue("runs_no_job")
    with pytest.raises(SparkDLValueError, match="numWorkers is 3, but this cluster runs 2 tasks at a time"):
        estimator.copy({estimator.numWorkers: 3}).fit(frame)


def test_a_loss_that_is_no_mean_is_refused_before_any_job(estimator, frame, runs_no_job):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", keras.losses.CategoricalCrossentropy(reduction="sum"))
    summing = estimator.copy({estimator.numWorkers: 2})._set(modelFile=model)
    with pytest.raises(SparkDLValueError, match="has the reduction sum, but several workers need the mean"):
        summing.fit(frame)
