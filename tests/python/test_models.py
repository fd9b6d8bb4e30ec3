"""The table of built-in models says what keras.applications says."""

import hashlib
import importlib
import json
from typing import Any

import numpy as np
import pytest

import seeded
from sparkdl import SparkDLValueError
from sparkdl.models import NamedModel, imagenet_labels, named_model, named_models, supported_models

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once
ROWS = pytest.mark.parametrize("row", named_models(), ids=lambda row: row.name)


class Asked(Exception):
    """Raised in place of a download."""


def builder(row: NamedModel) -> Any:
    return getattr(importlib.import_module(row.keras_module), row.keras_class)


def test_the_table_holds_the_eight_networks() -> None:
    assert supported_models() == [
        "InceptionV3",
        "Xception",
        "ResNet50",
        "VGG16",
        "VGG19",
        "MobileNet",
        "MobileNetV2",
        "EfficientNetB0",
    ]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        SparkDLValueError, match=r"Unknown model resnet50\. Known models: InceptionV3, .*\*\.sparkdl"
    ):
        named_model("resnet50")


@ROWS
def test_size_classes_and_feature_layer_are_keras_own(row: NamedModel) -> None:
    whole, headless = builder(row)(weights=None), builder(row)(weights=None, include_top=False)
    assert whole.input_shape == (None, row.height, row.width, 3)
    assert whole.output_shape == (None, row.classes)
    assert tuple(whole.get_layer(row.feature_layer).output.shape[1:]) == row.features
    assert headless.layers[-1].name == row.feature_layer


@ROWS
def test_normalization_and_channel_order_give_what_keras_preprocessing_gives(row: NamedModel) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (2, 9, 7, 3)).astype(np.float32)
    ordered = pixels[..., ::-1] if row.channel_order == "BGR" else pixels
    expected = {
        "tf": ordered / 127.5 - 1,
        "caffe": ordered - np.array([103.939, 116.779, 123.68], np.float32),
        "none": ordered,
    }[row.normalization]
    np.testing.assert_allclose(seeded.preprocess(row, pixels.astype(np.uint8)), expected, atol=1e-5)


@ROWS
@pytest.mark.parametrize("with_head", [True, False])
def test_weight_files_are_those_keras_would_fetch(
    row: NamedModel, with_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_file(name: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        raise Asked(name, origin, file_hash)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with pytest.raises(Asked) as asked:
        builder(row)(weights="imagenet", include_top=with_head)
    ours = row.top if with_head else row.no_top
    assert asked.value.args == (ours.name, ours.url, ours.hash)
    assert ours.hash_algorithm == (None if ours.hash is None else "md5")


@ROWS
def test_a_bundle_of_published_weights_is_named_by_their_hash_else_by_their_address(row: NamedModel) -> None:
    key = row.top.hash or hashlib.sha256(row.top.url.encode()).hexdigest()
    assert row.bundle_key == f"imagenet-{key[:16]}"


@ROWS
def test_the_network_for_published_weights_is_the_one_keras_builds_for_them(
    row: NamedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparkdl import _keras

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: "unused")
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    theirs = [type(layer).__name__ for layer in builder(row)(weights="imagenet").layers]
    monkeypatch.setattr("sparkdl._keras_files.kind", lambda path: None)
    monkeypatch.setattr("sparkdl._keras_files.load_weights", lambda *_: None)
    network = _keras.published("unused", row)  # type: ignore[arg-type]
    assert [type(layer).__name__ for layer in network.model.layers] == theirs
    scales = [layer.scale for layer in network.model.layers if type(layer).__name__ == "Rescaling"]
    if row.published_rescaling is not None:
        np.testing.assert_allclose(scales[-1], 1 / np.sqrt(seeded.IMAGENET_DEVIATION), rtol=1e-6)


def test_labels_of_imagenet_are_in_class_order() -> None:
    assert len(imagenet_labels()) == 1000
    assert imagenet_labels()[0] == ("n01440764", "tench")
    assert imagenet_labels()[832] == ("n04346328", "stupa")
    assert imagenet_labels()[967] == ("n07920052", "espresso")
    assert len({synset for synset, _ in imagenet_labels()}) == 1000


def test_labels_of_imagenet_are_those_of_keras_class_index(shared_data: Any) -> None:
    index = json.loads((shared_data / "imagenet_class_index.json").read_text())
    assert [list(pair) for pair in imagenet_labels()] == [index[str(i)] for i in range(1000)]
