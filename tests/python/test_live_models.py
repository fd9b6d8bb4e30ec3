"""Live Keras models as stages' models: natively where that goes, by Keras itself where it does not."""

import json

import numpy as np
import pytest

import keras_models
import sparkdl
from sparkdl import (
    KerasImageFileTransformer,
    KerasTransformer,
    SparkDLValueError,
    _bundles,
    _engine,
)

keras = pytest.importorskip("keras")

EXACT = 1e-5


@pytest.fixture(scope="module")
def frame(spark):
    rows = list(enumerate(keras_models.rows()[1].tolist()))
    return spark.createDataFrame(rows, "id int, numbers array<float>")


def transformed(model, frame, **params):
    stage = KerasTransformer(inputCol="numbers", outputCol="out", modelFile=model, **params)
    return np.array([row["out"] for row in stage.transform(frame).orderBy("id").collect()])


def of_keras(model):
    return keras_models.outputs_of(model, [keras_models.rows()[1]])[0]


def swirl():
    """A layer of one's own, whose computation stands in no file."""

    class Swirl(keras.layers.Layer):
        factor = 2.0

        def call(self, x):
            return keras.ops.reshape(keras.ops.sin(x) * self.factor, [keras.ops.shape(x)[0], -1])

        def compute_output_shape(self, shape):
            return shape

    given = keras.Input((3,), name="numbers")
    mixed = keras.layers.Dense(4, bias_initializer="normal")(given)
    mixed = keras.layers.BatchNormalization()(Swirl(name="mine")(mixed))
    return Swirl, keras.Model(given, mixed, name="swirling")


def test_a_live_model_is_keras_own(frame):
    model = keras_models.dense()
    assert not np.allclose(of_keras(model), 0)
    np.testing.assert_allclose(transformed(model, frame), of_keras(model), atol=EXACT)


@pytest.mark.long
def test_new_weights_of_a_live_model_are_seen(frame):
    model = keras_models.dense()
    before = transformed(model, frame)
    model.layers[0].set_weights([weight + 0.5 for weight in model.layers[0].get_weights()])
    np.testing.assert_allclose(transformed(model, frame), of_keras(model), atol=EXACT)
    assert not np.allclose(transformed(model, frame), before)


def test_a_live_model_with_a_layer_of_ones_own_runs(frame):
    _, model = swirl()
    np.testing.assert_allclose(transformed(model, frame), of_keras(model), atol=EXACT)
    np.testing.assert_allclose(transformed(model, frame), of_keras(model), atol=EXACT)


def test_what_a_layer_of_ones_own_computes_is_no_cached_secret(frame):
    kind, model = swirl()
    before = transformed(model, frame)
    kind.factor = -1.0
    again = swirl()[1]
    again.get_layer("mine").factor = -1.0
    again.set_weights(model.get_weights())
    after = transformed(again, frame)
    np.testing.assert_allclose(after, of_keras(again), atol=EXACT)
    assert not np.allclose(before, after)


@pytest.mark.long
def test_a_live_lambda_runs(frame):
    given = keras.Input((3,), name="numbers")
    model = keras.Model(given, keras.layers.Lambda(lambda x: x * 3 + 1, name="more")(given))
    np.testing.assert_allclose(transformed(model, frame), of_keras(model), atol=EXACT)


@pytest.mark.long
def test_loops_and_branches_of_a_layer_run(frame):
    import tensorflow as tf

    class Halving(keras.layers.Layer):
        def call(self, x):
            def halve(count, rest):
                return count + 1, rest / 2

            _, rest = tf.while_loop(lambda count, rest: tf.reduce_max(tf.abs(rest)) > 0.1, halve, [0, x])
            return rest

    given = keras.Input((3,), name="numbers")
    model = keras.Model(given, Halving()(given))
    found = transformed(model, frame, batchSize=1)
    rows = keras_models.rows()[1]
    expected = np.stack([np.asarray(model(row[None]))[0] for row in rows])
    # How often a row is halved depends on the rows beside it: a run here may hold several.
    assert np.abs(found).max() <= 0.1
    np.testing.assert_allclose(found / rows, (found / rows)[:, :1].repeat(3, 1), rtol=1e-4)
    assert expected.shape == found.shape


@pytest.mark.long
def test_several_inputs_outputs_and_types_freeze_too(spark):
    several = keras_models.several()

    class Same(keras.layers.Layer):
        def call(self, x):
            return x

    outputs = [Same(name=f"same_{index}")(output) for index, output in enumerate(several.outputs)]
    model = keras.Model(several.inputs, outputs)
    rows = keras_models.rows()
    tokens, vectors, grids = (column.tolist() for column in rows)
    schema = "id int, tokens array<int>, vector array<float>, grid array<array<array<float>>>"
    frame = spark.createDataFrame(list(zip(range(len(tokens)), tokens, vectors, grids, strict=True)), schema)
    stage = KerasTransformer(
        modelFile=model, inputCols=["tokens", "vector", "grid"], outputCols=list("abcde")
    )
    found = stage.transform(frame).orderBy("id").collect()
    for name, theirs in zip("abcde", keras_models.outputs_of(model, rows), strict=True):
        np.testing.assert_allclose([row[name] for row in found], theirs, atol=EXACT)


def test_a_live_model_takes_picture_files(spark, tmp_path):
    from pictures import encoded, picture

    pixels = picture(3, 16, 12)
    (tmp_path / "a.png").write_bytes(encoded(pixels))
    model = keras_models.pictures(None, None)
    stage = KerasImageFileTransformer(inputCol="uri", outputCol="out", modelFile=model, inputSize=[16, 12])
    found = stage.transform(spark.createDataFrame([(str(tmp_path / "a.png"),)], "uri string")).first()["out"]
    np.testing.assert_allclose(
        found.toArray(), np.asarray(model(pixels[None].astype(np.float32)))[0], atol=1e-4
    )


def test_a_saved_stage_holds_the_live_models_bundle(spark, frame, tmp_path):
    _, model = swirl()
    path = str(tmp_path / "stage")
    KerasTransformer(inputCol="numbers", outputCol="out", modelFile=model).save(path)
    metadata = json.loads(spark.read.text(f"{path}/metadata").first()[0])
    assert metadata["paramMap"]["modelFile"].endswith(".sparkdl")
    loaded = KerasTransformer.load(path)
    found = np.array([row["out"] for row in loaded.transform(frame).orderBy("id").collect()])
    np.testing.assert_allclose(found, of_keras(model), atol=EXACT)


def refusal(model, frame, **params):
    with pytest.raises(SparkDLValueError) as caught:
        transformed(model, frame, **params)
    return str(caught.value)


def test_a_live_model_that_is_not_built_is_refused(frame, runs_no_job):
    class Own(keras.Model):
        def call(self, x):
            return x

    found = refusal(Own(), frame)
    assert "is not a built functional or sequential keras.Model" in found


def test_a_live_model_has_no_hash_to_expect(frame, runs_no_job):
    assert refusal(keras_models.dense(), frame, expectedSha256="0" * 64) == (
        "expectedSha256 is of a file, but modelFile is a live keras.Model: leave expectedSha256 unset."
    )


@pytest.mark.once
def test_outputs_have_the_names_of_their_layers_each_once(tmp_path):
    given = keras.Input((4,), name="numbers")
    halves = keras.ops.split(given, 2, axis=1)
    model = keras.Model(given, [*halves, keras.layers.Dense(1, name="score")(given)])
    frozen = sparkdl.export(model, tmp_path / "frozen.sparkdl")
    native = _bundles.resolve_file(keras_models.saved(model, tmp_path), cache_dir=tmp_path)
    names = [
        [output["name"] for output in json.loads(_engine.describe_bundle(bundle)[0])["outputs"]]
        for bundle in (frozen, native)
    ]
    assert names[0] == names[1]
    assert len(set(names[0])) == 3
