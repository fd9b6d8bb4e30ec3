"""The table of built-in models says what keras.applications says."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest

import seeded
import sparkdl
from comparison import EACH_FAMILY
from sessions import ROOT
from sparkdl import SparkDLValueError, _keras
from sparkdl.__main__ import main
from sparkdl.models import NamedModel, imagenet_labels, named_model, named_models, supported_models

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once
TIMES = "\N{MULTIPLICATION SIGN}"
ROWS = pytest.mark.parametrize("row", named_models(), ids=lambda row: row.name)


def test_the_table_holds_every_network_of_keras_applications() -> None:
    networks = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {row.keras_class for row in named_models()} == networks
    narrower = [row.name for row in named_models() if row.keras_arguments]
    assert narrower == [
        *(f"MobileNet_{alpha}" for alpha in ("0.25", "0.50", "0.75")),
        *(f"MobileNetV2_{alpha}" for alpha in ("0.35", "0.50", "0.75", "1.3", "1.4")),
    ]


def test_supported_models_say_what_a_network_takes_and_gives() -> None:
    models = sparkdl.supportedModels()
    assert [model.name for model in models] == supported_models()
    mobilenet = next(model for model in models if model.name == "MobileNet")
    assert (mobilenet.height, mobilenet.width, mobilenet.features) == (224, 224, (7, 7, 1024))
    assert (mobilenet.parameters, mobilenet.license) == (4253864, "Apache-2.0")


def test_the_command_line_lists_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "input", "features", "parameters", "license"]
    assert [line.split()[0] for line in lines] == supported_models()
    found = next(line for line in lines if line.startswith("MobileNetV2_0.35 "))
    assert found.split() == ["MobileNetV2_0.35", "224x224", "7x7x1280", "1.7", "M", "Apache-2.0"]


def test_the_page_of_models_says_what_the_table_says() -> None:
    page = (ROOT / "spark-package/docs/models.md").read_text()
    for row in named_models():
        cells = [
            f"`{row.name}`",
            f"{row.height} {TIMES} {row.width}",
            f" {TIMES} ".join(map(str, row.features)),
            f"{row.parameters / 1e6:.1f} M",
            f"{row.normalization}, {row.channel_order}",
            row.license,
            row.top.hash_algorithm or "none",
        ]
        assert f"| {' | '.join(cells)} |" in page


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        SparkDLValueError, match=r"Unknown model resnet50\. Known models: InceptionV3, .*\*\.sparkdl"
    ):
        named_model("resnet50")


@ROWS
def test_normalization_and_channel_order_give_what_keras_preprocessing_gives(row: NamedModel) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (2, 9, 7, 3)).astype(np.float32)
    ordered = pixels[..., ::-1] if row.channel_order == "BGR" else pixels
    expected = {
        "tf": ordered / 127.5 - 1,
        "caffe": ordered - np.array([103.939, 116.779, 123.68], np.float32),
        "torch": (ordered / 255 - seeded.IMAGENET_MEAN) / seeded.IMAGENET_DEVIATION,
        "none": ordered,
    }[row.normalization]
    np.testing.assert_allclose(seeded.preprocess(row, pixels.astype(np.uint8)), expected, atol=1e-5)


@ROWS
def test_a_bundle_of_published_weights_is_named_by_their_hash_else_by_their_address(row: NamedModel) -> None:
    key = row.top.hash or hashlib.sha256(row.top.url.encode()).hexdigest()
    assert row.bundle_key == f"imagenet-{key[:16]}"


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_a_row_says_what_keras_builds_and_fetches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = named_model(name)
    fetched = []

    def get_file(name: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        fetched.append((name, origin, file_hash))
        return name

    def built(**arguments: Any) -> Any:
        keras.utils.clear_session()
        builder = getattr(keras.applications, row.keras_class)
        return builder(input_shape=(row.height, row.width, 3), **row.keras_arguments, **arguments)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    whole, headless = built(), built(include_top=False)
    assert whole.output_shape == (None, row.classes)
    assert whole.count_params() == row.parameters
    assert headless.output_shape == (None, *row.features)
    # ConvNeXt's head starts with a normalization, which it has without its classifier too.
    behind = 1 if name.startswith("ConvNeXt") else 0
    assert [operation.name for operation in headless.operations][-1 - behind] == row.feature_layer
    (features,) = (op.output for op in whole.operations if op.name == row.feature_layer)
    assert tuple(features.shape[1:]) == row.features
    for (file, url, keras_hash), ours in zip(fetched, (row.top, row.no_top), strict=True):
        assert (file, url) == (ours.cached_as or ours.name, ours.url)
        assert keras_hash == ours.hash
        assert ours.hash_algorithm == (ours.hash and {32: "md5", 64: "sha256"}[len(ours.hash)])
    theirs = [type(layer).__name__ for layer in whole.layers]
    monkeypatch.setattr("sparkdl._keras_files.kind", lambda path: None)
    monkeypatch.setattr("sparkdl._keras_files.load_weights", lambda *_: None)
    network = _keras.published("unused", row)  # type: ignore[arg-type]
    assert [type(layer).__name__ for layer in network.model.layers] == theirs
    if row.published_rescaling is not None:
        scales = [layer.scale for layer in network.model.layers if type(layer).__name__ == "Rescaling"]
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
