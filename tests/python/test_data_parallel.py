"""One model trained by several tasks: what one task gives, and what cannot be had then."""

import numpy as np
import pytest

import keras_models
from sparkdl import KerasEstimator

keras = pytest.importorskip("keras")
helpers = pytest.importorskip("training_helpers")

ROWS = 37


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
