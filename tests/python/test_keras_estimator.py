"""KerasEstimator: rows of numbers, labels of all kinds, against a plain Keras loop over the same rows."""

import hashlib

import numpy as np
import pytest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import IndexToString
from pyspark.ml.linalg import Vectors

import keras_models
from sparkdl import KerasEstimator, KerasModel, SparkDLValueError

keras = pytest.importorskip("keras")

NAMES = ["daisy", "rose", "tulip"]
COUNT = 60
EPOCHS = 3
BATCH = 16
SEED = 4


def network():
    keras.utils.set_random_seed(11)
    layers = [
        keras.layers.Dense(6, activation="tanh", name="hidden"),
        keras.layers.Dense(3, activation="softmax", name="scores"),
    ]
    return keras.Sequential([keras.Input((3,), name="numbers"), *layers], name="flowers")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return keras_models.saved(network(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(8).normal(size=(COUNT, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def classes(numbers):
    return numbers.argmax(1)


@pytest.fixture(scope="module")
def frame(spark, numbers, classes):
    rows = [
        (n, [float(v) for v in row], NAMES[c], 1.0 + n % 2, float(row.sum()))
        for n, (row, c) in enumerate(zip(numbers, classes, strict=True))
    ]
    frame = spark.createDataFrame(rows, "id int, x array<float>, kind string, weight double, total double")
    return frame.repartition(3, "id")


@pytest.fixture(scope="module")
def estimator(file):
    return KerasEstimator(
        inputCol="x",
        outputCol="scores",
        labelCol="kind",
        modelFile=file,
        kerasLoss="categorical_crossentropy",
        kerasMetrics=["accuracy"],
        learningRate=0.05,
        epochs=EPOCHS,
        batchSize=BATCH,
        seed=SEED,
        weightCol="weight",
        kerasFitParams={"epochs": 99, "verbose": 0},
    )


@pytest.fixture(scope="module")
def fitted(estimator, frame):
    return estimator.fit(frame)


def scores_of(model, frame):
    return np.stack([row["scores"].toArray() for row in model.transform(frame).orderBy("id").collect()])


def ordered(numbers, classes):
    """Inputs, labels and weights in the order of the rows' keys."""
    keys = [hashlib.sha256(row.tobytes()).digest() for row in numbers]
    order = np.array(sorted(range(COUNT), key=keys.__getitem__))
    weights = (1.0 + order % 2).astype(np.float32)
    return numbers[order], np.eye(3, dtype=np.float32)[classes[order]], weights


def compiled(file):
    keras.utils.set_random_seed(SEED)
    model = keras.saving.load_model(file, compile=False)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 0.05
    return model


def trained_by_keras(file, numbers, classes):
    """The same training as a plain loop, shuffled by epoch."""
    from sparkdl.estimators.feeding import epoch_order

    x, y, weights = ordered(numbers, classes)
    model, losses = compiled(file), []
    for epoch in range(EPOCHS):
        o = epoch_order(COUNT, SEED, epoch)
        found = model.fit(x[o], y[o], sample_weight=weights[o], batch_size=BATCH, shuffle=False, verbose=0)
        losses.append(found.history["loss"][0])
    return model, losses


def assert_same_weights(fitted, theirs):
    ours = keras.saving.load_model(fitted.getModelFile(), compile=False)
    for mine, yours in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-5)


def test_training_is_that_of_a_plain_keras_loop(fitted, file, numbers, classes, frame):
    theirs, losses = trained_by_keras(file, numbers, classes)
    assert_same_weights(fitted, theirs)
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3]
    np.testing.assert_allclose([row["loss"] for row in fitted.history], losses, atol=1e-5)
    assert "accuracy" in fitted.history[0]


@pytest.mark.once
def test_an_epoch_of_so_many_steps_goes_on_where_the_last_ended(estimator, file, numbers, classes, frame):
    from sparkdl.estimators.feeding import epoch_order

    more = {"steps_per_epoch": 3, "verbose": 0}
    fitted = estimator.copy({estimator.kerasFitParams: more}).fit(frame)
    x, y, weights = ordered(numbers, classes)
    theirs = compiled(file)
    for step in range(3 * EPOCHS):
        # A pass has four batches, the last of them a part of one.
        number, batch = divmod(step, 4)
        o = epoch_order(COUNT, SEED, number)[batch * BATCH :][:BATCH]
        theirs.train_on_batch(x[o], y[o], weights[o])
    assert_same_weights(fitted, theirs)
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3]


def test_scores_are_keras_own_and_predictions_their_best(fitted, numbers, frame):
    assert isinstance(fitted, KerasModel)
    found = scores_of(fitted, frame)
    model = keras.saving.load_model(fitted.getModelFile(), compile=False)
    np.testing.assert_allclose(found, model.predict(numbers, verbose=0), atol=1e-4)
    rows = fitted.transform(frame).orderBy("id").collect()
    assert [row["prediction"] for row in rows] == found.argmax(1).astype(float).tolist()
    assert [row["labelIndex"] for row in rows] == [float(NAMES.index(row["kind"])) for row in rows]


def test_mllib_tells_labels_and_evaluates(fitted, frame, classes):
    result = fitted.transform(frame)
    assert result.schema["prediction"].metadata["ml_attr"]["vals"] == NAMES
    named = IndexToString(inputCol="prediction", outputCol="named").transform(result).collect()
    assert all(row["named"] == NAMES[int(row["prediction"])] for row in named)
    accuracy = MulticlassClassificationEvaluator(labelCol="labelIndex", metricName="accuracy").evaluate(
        result
    )
    assert accuracy == pytest.approx(np.mean([row["named"] == row["kind"] for row in named]))


def test_an_unseen_label_counts_as_wrong_and_no_label_is_needed(fitted, spark):
    other = spark.createDataFrame([([1.0, 0.0, 0.0], "orchid")], "x array<float>, kind string")
    assert fitted.transform(other).first()["labelIndex"] == 3.0
    assert fitted.transform(other.drop("kind")).columns == ["x", "scores", "prediction"]
    # What cannot be scored has no prediction, and no label has no index.
    rows = [([1.0], "rose"), ([0.0, 1.0, 0.0], None)]
    kept = fitted.copy({fitted.handleInvalid: "keep"})
    found = kept.transform(spark.createDataFrame(rows, "x array<float>, kind string")).collect()
    assert [(row["prediction"] is None, row["labelIndex"]) for row in found] == [(True, 1.0), (False, None)]


def test_a_saved_model_is_the_same(fitted, frame, tmp_path):
    fitted.write().overwrite().save(str(tmp_path / "model"))
    loaded = KerasModel.load(str(tmp_path / "model"))
    assert loaded.uid == fitted.uid
    assert loaded.history == fitted.history
    assert loaded.transform(frame).orderBy("id").collect() == fitted.transform(frame).orderBy("id").collect()


def test_a_saved_estimator_is_the_same(estimator, spark, tmp_path):
    estimator.write().overwrite().save(str(tmp_path / "estimator"))
    loaded = KerasEstimator.load(str(tmp_path / "estimator"))
    mine = {param.name: value for param, value in estimator.extractParamMap().items()}
    theirs = {param.name: value for param, value in loaded.extractParamMap().items()}
    assert mine == theirs
    assert loaded._file(spark).digest == estimator._file(spark).digest


def test_history_is_a_table(fitted):
    lines = str(fitted.history).splitlines()
    assert lines[0].split()[0] == "epoch"
    assert len(lines) == EPOCHS + 1
    assert fitted.history._repr_html_().count("<tr>") == EPOCHS + 1


@pytest.mark.once
def test_numbers_are_predicted(file, frame, numbers, tmp_path):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    regression = KerasEstimator(
        inputCol="x",
        outputCol="scores",
        labelCol="total",
        modelFile=model,
        kerasLoss="mse",
        learningRate=0.3,
        epochs=12,
        seed=1,
        validationFraction=0.25,
        earlyStopping=3,
        kerasFitParams={"verbose": 0},
    ).fit(frame)
    rows = regression.transform(frame).orderBy("id").collect()
    assert "labelIndex" not in rows[0]
    trained = keras.saving.load_model(regression.getModelFile(), compile=False)
    theirs = trained.predict(numbers, verbose=0)[:, 0]
    np.testing.assert_allclose([row["prediction"] for row in rows], theirs, atol=1e-4)
    validated = [row["val_loss"] for row in regression.history]
    assert validated[-1] < validated[0]
    assert ((theirs - numbers.sum(1)) ** 2).mean() < validated[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labelCol": "nothing"}, "Column nothing does not exist."),
        ({"inputCol": "kind"}, "Column kind is of type string, but the input numbers"),
        ({"weightCol": "kind"}, "Column kind must hold numbers (weights) but was actually string."),
        ({"predictionCol": "kind"}, "Column kind already exists."),
        ({"modelFile": "model.sparkdl"}, "modelFile must be a whole Keras model"),
        ({"kerasLoss": "categorical_crossentropie"}, "it has categorical_crossentropy"),
    ],
)
def test_what_cannot_work_is_refused_before_any_job(estimator, frame, runs_no_job, change, said):
    with pytest.raises(SparkDLValueError, match=None) as error:
        estimator.copy().setParams(**change).fit(frame)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"kerasFitParams": {"x": 1}}, "kerasFitParams does not take x: the rows of the DataFrame"),
        ({"kerasFitParams": {"validation_data": 1}}, "set validationFraction"),
        ({"kerasFitParams": {"speed": 1}}, "kerasFitParams does not take speed: it takes batch_size"),
        ({"epochs": 0}, "epochs must be at least 1 but was 0."),
        ({"learningRate": 0.0}, "learningRate must be above 0"),
        ({"validationFraction": 1.0}, "validationFraction must be at least 0 and below 1"),
        ({"earlyStopping": {"hope": 1, "patience": 2}}, "earlyStopping does not take hope"),
        ({"customObjects": {"Swirl": "import os"}}, "importable names alone"),
        ({"failMode": "maybe"}, 'failMode must be one of "fail", "skip"'),
    ],
)
@pytest.mark.once
def test_values_are_checked_where_they_are_set(params, said):
    with pytest.raises(SparkDLValueError) as error:
        KerasEstimator(**params)
    assert said in str(error.value)


@pytest.mark.once
def test_vectors_sparse_and_dense_are_labels_and_inputs(spark, estimator, numbers, classes):
    rows = [
        (Vectors.dense(row.tolist()), Vectors.sparse(3, [int(c)], [1.0]))
        for row, c in zip(numbers, classes, strict=True)
    ]
    frame = spark.createDataFrame(rows, ["x", "kind"])
    given = {estimator.epochs: 1}
    plain = estimator.copy(given)
    plain.clear(plain.weightCol)
    plain._set(kerasLoss="sparse_categorical_crossentropy")
    result = plain.fit(frame).transform(frame)
    rows = result.collect()
    assert [row["labelIndex"] for row in rows] == classes.astype(float).tolist()
    assert "vals" not in result.schema["prediction"].metadata["ml_attr"]
