"""Searches: grids in parallel, CrossValidator, trials that fail, and those that are taken up again."""

import json
import socket
import threading
import time

import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder

import keras_models
from sparkdl import KerasEstimator, SparkDLError

keras = pytest.importorskip("keras")
progress = pytest.importorskip("sparkdl.estimators.progress")


@pytest.fixture(scope="module")
def frame(spark):
    numbers = np.random.default_rng(8).normal(size=(40, 2))
    rows = [([float(v) for v in row], "left" if row[0] < 0 else "right") for row in numbers]
    return spark.createDataFrame(rows, "x array<double>, side string").coalesce(2).cache()


@pytest.fixture(scope="module")
def estimator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid", name="only")])
    return KerasEstimator(
        inputCol="x",
        outputCol="scores",
        labelCol="side",
        modelFile=keras_models.saved(model, folder),
        kerasOptimizer="sgd",
        kerasLoss="binary_crossentropy",
        epochs=4,
        batchSize=8,
        seed=2,
        workDir=str(folder / "work"),
        kerasFitParams={"verbose": 1},
    )


def test_cross_validation_picks_what_learns_and_is_saved(spark, frame, estimator, tmp_path, capsys):
    grid = ParamGridBuilder().addGrid(estimator.learningRate, [1e-9, 1.0]).build()
    accuracy = MulticlassClassificationEvaluator(labelCol="labelIndex", metricName="accuracy")
    search = CrossValidator(
        estimator=estimator,
        estimatorParamMaps=grid,
        evaluator=accuracy,
        numFolds=2,
        seed=1,
        parallelism=2,
        collectSubModels=True,
    )
    found = search.fit(frame)
    assert found.avgMetrics[1] > found.avgMetrics[0]
    assert found.avgMetrics[1] > 0.9
    assert len(found.subModels) == 2
    assert all(len(models[1].history) == 4 for models in found.subModels)
    said = capsys.readouterr().out
    assert "trial 1: epoch 4/4" in said
    found.write().overwrite().save(str(tmp_path / "found"))
    loaded = CrossValidatorModel.load(str(tmp_path / "found"))
    assert loaded.transform(frame).collect() == found.transform(frame).collect()
    assert loaded.bestModel.history == found.bestModel.history


@pytest.mark.once
def test_a_trial_that_fails_is_told_or_skipped_and_others_are_kept(spark, frame, estimator):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    values = frame.selectExpr("x", "x[0] as side")
    plain = estimator.copy({estimator.kerasLoss: "mse", estimator.failMode: "skip"})
    plain._set(modelFile=model, kerasFitParams={"verbose": 0})
    # Its second step overflows: the loss is no number.
    nan = {estimator.learningRate: 3e38}
    models = dict(plain.fitMultiple(values, [nan, {estimator.learningRate: 0.1}]))
    assert set(models) == {0, 1}
    failed = models[0]
    assert "learningRate=3e+38" in failed.failureReason
    assert "Traceback" in failed.failureReason
    assert "The loss became" in failed.failureReason
    rows = failed.transform(values).collect()
    assert {row["prediction"] for row in rows} == {1e150}
    assert len(models[1].history) == 4
    with pytest.raises(SparkDLError) as error:
        plain.copy({**nan, estimator.failMode: "fail"}).fit(values)
    assert "learningRate=3e+38" in str(error.value)
    assert "The loss became" in str(error.value)


@pytest.mark.once
@pytest.mark.long
def test_threads_share_the_models_of_a_search(spark, frame, estimator):
    maps = [{estimator.seed: seed, estimator.epochs: 1} for seed in range(3)]
    trials = estimator.copy({estimator.kerasFitParams: {"verbose": 0}}).fitMultiple(frame, maps)
    found = []

    def take():
        found.extend(trials)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(index for index, _ in found) == [0, 1, 2]
    assert list(trials) == []
    # A second search finds them done: the histories agree to the seconds.
    again = estimator.copy({estimator.kerasFitParams: {"verbose": 0}}).fit(frame, maps)
    assert [model.history for model in again] == [model.history for _, model in sorted(found)]


def test_it_is_a_stage_of_a_pipeline(spark, frame, estimator, tmp_path):
    plain = estimator.copy({estimator.kerasFitParams: {"verbose": 0}, estimator.seed: 0, estimator.epochs: 1})
    fitted = Pipeline(stages=[plain]).fit(frame)
    fitted.write().overwrite().save(str(tmp_path / "fitted"))
    loaded = type(fitted).load(str(tmp_path / "fitted"))
    assert loaded.transform(frame).collect() == fitted.transform(frame).collect()


@pytest.mark.once
def test_other_models_of_the_session_go_on(spark, estimator):
    """With a session's own tags Spark 4.1 can send MLlib's models of two classes to no task any more."""
    rows = [(Vectors.dense([float(n), 1.0]), [float(n), 1.0], n % 2.0) for n in range(6)]
    frame = spark.createDataFrame(rows, ["features", "x", "label"])
    plain = estimator.copy({estimator.kerasFitParams: {"verbose": 0}, estimator.epochs: 1})
    plain.setLabelCol("label").fit(frame)
    found = LogisticRegression(maxIter=2).fit(frame).transform(frame)
    assert len(found.select("prediction").collect()) == len(rows)


class Heard(progress.Board):
    def __init__(self):
        super().__init__(["only"])
        self.heard = []

    def epoch(self, *said):
        self.heard.append(said)


@pytest.mark.once
@pytest.mark.parametrize("knows", [True, False], ids=["token", "no token"])
def test_progress_is_heard_of_trials_alone(knows):
    board = Heard()
    listener = progress.Listener(board, "127.0.0.1")
    place = listener.place(0)
    message = {"trial": 0, "epoch": 1, "epochs": 2, "numbers": {"loss": 0.5}}
    with socket.create_connection((place["host"], place["port"])) as connection:
        token = place["token"] if knows else "guess"
        connection.sendall(f"{token}\n{json.dumps(message)}\n".encode())
        deadline = time.monotonic() + 5
        while knows and not board.heard and time.monotonic() < deadline:
            time.sleep(0.01)
    listener.close()
    assert board.heard == ([(0, 1, 2, {"loss": 0.5})] if knows else [])
