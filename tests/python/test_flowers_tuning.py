"""Fine-tuning and search on real photographs, against plain loops of Keras over the same rows."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame

from sparkdl import KerasImageFileEstimator
from test_flowers import is_test, photographs

keras = pytest.importorskip("keras")
feeding = pytest.importorskip("sparkdl.estimators.feeding")

pytestmark = pytest.mark.long

BLOCK = ["conv_dw_13", "conv_pw_13"]
BATCH, SEED = 32, 1


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("flowers-work")


@pytest.fixture(scope="module")
def network(shared_data, tmp_path_factory):
    """MobileNet with the published weights and a new head for five classes."""
    keras.utils.set_random_seed(SEED)
    whole = keras.saving.load_model(shared_data / "models" / "mobilenet_0.25_224.keras", compile=False)
    pooled = keras.layers.GlobalAveragePooling2D()(whole.get_layer("conv_pw_13_relu").output)
    head = keras.layers.Dense(5, "softmax", name="head")(pooled)
    file = tmp_path_factory.mktemp("flowers-model") / "flowers.keras"
    keras.Model(whole.inputs, head, name="flowers").save(file)
    return str(file)


@pytest.fixture(scope="module")
def files(shared_data):
    return photographs(shared_data)


@pytest.fixture(scope="module")
def frame(spark, files):
    rows = [
        (str(file), file.parent.name, int(hashlib.sha256(file.name.encode()).hexdigest(), 16) % 2)
        for file in files
    ]
    return spark.createDataFrame(rows, "uri string, label string, fold int").cache()


@pytest.fixture
def accuracy(spark):
    return MulticlassClassificationEvaluator(labelCol="labelIndex", metricName="accuracy")


@pytest.fixture(scope="module")
def estimator(network, work):
    return KerasImageFileEstimator(
        inputCol="uri",
        outputCol="scores",
        modelFile=network,
        preprocessing="tf",
        kerasOptimizer="adam",
        kerasLoss="categorical_crossentropy",
        batchSize=BATCH,
        seed=SEED,
        workDir=str(work),
        kerasFitParams={"verbose": 0},
    )


def test_the_last_block_gives_more_than_frozen_features(estimator, network, frame, files, accuracy):
    head, block = ["head"], [*BLOCK, "head"]
    maps = [
        {estimator.trainableLayers: layers, estimator.epochs: 10, estimator.learningRate: 0.002}
        for layers in (head, block)
    ]
    found = []
    for split in range(3):
        tested = [str(file) for file, hit in zip(files, is_test(split, files), strict=True) if hit]
        is_tested = frame.uri.isin(tested)
        frozen, tuned = estimator.fit(frame.where(~is_tested), maps)
        found.append(
            [accuracy.evaluate(model.transform(frame.where(is_tested))) for model in (frozen, tuned)]
        )
        assert changed_layers(network, frozen) == set(head)
        assert changed_layers(network, tuned) == set(block)
    frozen, tuned = np.mean(found, axis=0)
    print(
        f"mean accuracy of 3 splits: the last block {tuned:.4f}, frozen features {frozen:.4f}; all: {found}"
    )
    assert tuned > frozen
    assert tuned > 0.8


def changed_layers(file, model):
    """The layers whose weights are not bit-equal to those of the file."""
    before = keras.saving.load_model(file, compile=False)
    after = keras.saving.load_model(model.getModelFile(), compile=False)
    pairs = [
        (layer.name, layer.get_weights(), after.get_layer(layer.name).get_weights())
        for layer in before.layers
    ]
    return {name for name, old, new in pairs if not all(map(np.array_equal, old, new))}


RATES, EPOCHS = [1e-7, 0.001, 0.003], [2, 5]


def test_a_search_picks_what_a_plain_loop_picks(
    estimator, network, frame, work, accuracy, spark, face, tmp_path
):
    tuned = estimator.copy({estimator.trainableLayers: [*BLOCK, "head"]})
    grid = ParamGridBuilder().addGrid(tuned.learningRate, RATES).addGrid(tuned.epochs, EPOCHS).build()
    search = CrossValidator(
        estimator=Pipeline(stages=[tuned]),
        estimatorParamMaps=grid,
        evaluator=accuracy,
        numFolds=2,
        foldCol="fold",
        parallelism=2,
    )
    best = search.fit(frame)
    points = [(values[tuned.learningRate], values[tuned.epochs]) for values in grid]
    theirs = [np.mean([loop(network, frame, work, fold, *point) for fold in (0, 1)]) for point in points]
    print("rate, epochs, ours, Keras:", *zip(points, best.avgMetrics, theirs, strict=True), sep="\n  ")
    # The points differ truly, so that the best is no matter of a photograph.
    assert max(theirs) - min(theirs) > 0.3
    assert np.argmax(best.avgMetrics) == np.argmax(theirs)
    np.testing.assert_allclose(best.avgMetrics, theirs, atol=2.5 / 400)
    best.bestModel.write().overwrite().save(str(tmp_path / "best"))
    ours = best.bestModel.transform(frame).orderBy("uri").collect()
    if face == "jvm":
        loaded = spark._jvm.sparkdl.PipelineLoader.load(str(tmp_path / "best"))
        scala = DataFrame(loaded.transform(frame._jdf), spark).orderBy("uri").collect()
        assert [row["prediction"] for row in scala] == [row["prediction"] for row in ours]
        np.testing.assert_allclose(
            [row["scores"].toArray() for row in scala], [row["scores"].toArray() for row in ours], atol=1e-6
        )


def loop(network, frame, work, fold, rate, epochs):
    """The accuracy of a plain loop of Keras that leaves this fold out."""
    levels = decoded(work)
    rows = [
        (hashlib.sha256(Path(r["uri"]).read_bytes()).hexdigest(), r["label"], r["fold"])
        for r in frame.collect()
    ]
    names = sorted({label for _, label, _ in rows})
    # The order that an estimator starts from.
    rows.sort()
    x = np.stack([levels[key] for key, _, _ in rows]).astype(np.float32) / 127.5 - 1
    y = np.eye(5, dtype=np.float32)[[names.index(label) for _, label, _ in rows]]
    held = np.array([number == fold for _, _, number in rows])
    keras.utils.set_random_seed(SEED)
    model = keras.saving.load_model(network, compile=False)
    for layer in model.layers:
        layer.trainable = layer.name in (*BLOCK, "head")
    model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy", metrics=["accuracy"])
    ours, own = x[~held], y[~held]
    for epoch in range(epochs):
        order = feeding.epoch_order(len(ours), SEED, epoch)
        model.fit(ours[order], own[order], batch_size=BATCH, shuffle=False, verbose=0)
    return float(np.mean(model.predict(x[held], verbose=0).argmax(1) == y[held].argmax(1)))


def decoded(work):
    """The levels of each photograph, by the digest of its file."""
    files = [file for file in (work / "pictures").rglob("*.parquet") if file.stat().st_size]
    tables = [pq.read_table(file, columns=["key", "pixels"]) for file in files]
    return {
        key: np.frombuffer(pixels, np.uint8).reshape(224, 224, 3)
        for table in tables
        for key, pixels in zip(*(table[name].to_pylist() for name in ("key", "pixels")), strict=True)
    }
