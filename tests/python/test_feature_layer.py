"""Features of any layer, against Keras."""

import json

import numpy as np
import pytest

import sparkdl
from pictures import TINY, encoded, picture
from sparkdl import DeepImageFeaturizer, SparkDLValueError, _bundles, _engine
from sparkdl.__main__ import main

keras = pytest.importorskip("keras")

FILE = TINY.parents[1] / "keras" / "mobilenet.keras"
SIDE = 32
EXACT = 1e-4
# A map in the middle, the vector behind the global pooling, the scores before the softmax.
LAYERS = ("conv_pw_3_relu", "conv_pw_11", "global_average_pooling2d", "reshape_2")


@pytest.fixture(scope="module")
def model():
    return keras.saving.load_model(FILE)


@pytest.fixture(scope="module")
def pixels():
    return [picture(seed, SIDE, SIDE) for seed in range(4)]


@pytest.fixture(scope="module")
def frame(spark, pixels):
    return spark.createDataFrame(
        [(i, encoded(one)) for i, one in enumerate(pixels)], "id int, picture binary"
    )


def stage(**params):
    return DeepImageFeaturizer(
        **(
            {"inputCol": "picture", "outputCol": "out", "modelName": "MobileNet", "weights": str(FILE)}
            | params
        )
    )


def features(model, layer, pixels):
    batch = np.stack(pixels).astype(np.float32) / 127.5 - 1
    found = np.asarray(keras.Model(model.inputs, model.get_layer(layer).output)(batch))
    assert np.ptp(found, axis=0).max() > 0.01 * np.abs(found).max(), "the pictures must differ"
    return found


def pooled(found, pooling):
    if pooling == "none" or found.ndim == 2:
        return found.reshape(len(found), -1)
    axes = tuple(range(1, found.ndim - 1))
    return found.mean(axes) if pooling == "avg" else found.max(axes)


def test_the_layers_are_there_and_of_ranks_that_differ(model):
    assert {len(model.get_layer(layer).output.shape) for layer in LAYERS} == {2, 4}


@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
@pytest.mark.parametrize("layer", LAYERS)
def test_features_of_a_layer_are_keras_own(frame, model, pixels, layer, pooling):
    result = stage(featureLayer=layer, pooling=pooling).transform(frame)
    expected = pooled(features(model, layer, pixels), pooling)
    assert result.schema["out"].metadata == {"ml_attr": {"num_attrs": expected.shape[1]}}
    found = np.stack([row["out"].toArray() for row in result.orderBy("id").collect()])
    np.testing.assert_allclose(found, expected, atol=EXACT * np.abs(expected).max())


def test_the_features_of_two_layers_do_not_share_a_bundle(frame):
    first, second, own = (
        stage(**params).transform(frame).schema["out"].metadata["ml_attr"]["num_attrs"]
        for params in ({"featureLayer": "conv_pw_1"}, {"featureLayer": "conv_pw_11"}, {})
    )
    assert len({first, second, own}) == 3


def test_a_layer_of_a_live_model_does_too(frame, model, pixels):
    result = stage(weights=model, featureLayer=LAYERS[0]).transform(frame)
    found = np.stack([row["out"].toArray() for row in result.orderBy("id").collect()])
    expected = pooled(features(model, LAYERS[0], pixels), "avg")
    np.testing.assert_allclose(found, expected, atol=EXACT * np.abs(expected).max())


def test_an_unknown_layer_is_refused_with_close_names(frame, runs_no_job):
    with pytest.raises(SparkDLValueError) as caught:
        stage(featureLayer="conv_pw_3_rellu").transform(frame)
    assert caught.value.kind == "InvalidModel"
    assert "conv_pw_3_rellu" in str(caught.value)
    assert "conv_pw_3_relu" in str(caught.value).replace("conv_pw_3_rellu", "")


def test_a_bundle_has_the_features_of_one_layer(spark, frame, tmp_path):
    bundle = str(tmp_path / "m.sparkdl")
    asked = ["export", "--model", "MobileNet", "--weights", str(FILE), "--output", bundle]
    assert main([*asked, "--feature-layer", "conv_pw_3_relu"]) == 0
    assert json.loads(_engine.describe_bundle(bundle)[0])["featureLayer"] == "conv_pw_3_relu"
    with_bundle = {"modelName": bundle, "weights": "imagenet"}
    found = stage(featureLayer="conv_pw_3_relu", **with_bundle).transform(frame).first()["out"].toArray()
    np.testing.assert_allclose(
        found, stage(featureLayer="conv_pw_3_relu").transform(frame).first()["out"].toArray(), atol=1e-5
    )
    with pytest.raises(SparkDLValueError) as caught:
        stage(featureLayer="conv_pw_11", **with_bundle).transform(frame)
    assert str(caught.value) == (
        f"The bundle {bundle} has the features of its layer conv_pw_3_relu, but featureLayer is conv_pw_11: "
        "leave featureLayer unset, or make the bundle of that layer (python -m sparkdl export "
        "--feature-layer conv_pw_11)."
    )
    tiny = stage(featureLayer="x", modelName=str(TINY), weights="imagenet")
    with pytest.raises(
        SparkDLValueError, match="has the features of its layer unknown, but featureLayer is x"
    ):
        tiny.transform(frame)


@pytest.mark.once
def test_keras_and_the_native_reader_take_the_same_layer(model, pixels, tmp_path):
    by_keras = sparkdl.export("MobileNet", tmp_path / "k.sparkdl", weights=str(FILE), feature_layer=LAYERS[0])
    natively = _bundles.resolve(
        "MobileNet", str(FILE), cache_dir=tmp_path, asked=_bundles.Asked(feature_layer=LAYERS[0])
    )
    assert natively.name.endswith(f"-{LAYERS[0]}.sparkdl")
    shapes = [
        {key: output["shape"] for key, output in json.loads(_engine.describe_bundle(b)[0])["outputs"].items()}
        for b in (by_keras, natively)
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(
        SparkDLValueError, match=r"has no layer conv_pw_x to take features from; it has conv_"
    ):
        sparkdl.export("MobileNet", tmp_path / "x.sparkdl", weights=str(FILE), feature_layer="conv_pw_x")


@pytest.mark.once
def test_a_bundle_of_another_layer_in_the_cache_is_made_anew(tmp_path):
    asked = _bundles.Asked(feature_layer="conv_pw_11")
    first = _bundles.resolve("MobileNet", str(FILE), cache_dir=tmp_path, asked=asked)
    other = _bundles.resolve(
        "MobileNet", str(FILE), cache_dir=tmp_path, asked=_bundles.Asked(feature_layer="conv_pw_1")
    )
    first.write_bytes(other.read_bytes())
    again = _bundles.resolve("MobileNet", str(FILE), cache_dir=tmp_path, asked=asked)
    assert json.loads(_engine.describe_bundle(again)[0])["featureLayer"] == "conv_pw_11"
