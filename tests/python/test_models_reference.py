"""Every network of the table gives what Keras gives, through the core and through the stages."""

import io
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image

import seeded
import sparkdl
from sparkdl import _engine, _native
from sparkdl.models import NamedModel, named_models

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.classic

PICTURES = 8
TOLERANCE = 1e-4


def pictures(row: NamedModel) -> tuple[list[bytes], seeded.Pixels]:
    """Files of odd sizes, and the pixels that our own resizing makes of them, RGB."""
    rng = np.random.default_rng(8)
    files = [seeded.png(seeded.photograph(rng, i)) for i in range(PICTURES)]
    options = {
        "height": str(row.height),
        "width": str(row.width),
        "scaleHint": "SCALE_AREA_AVERAGING",
        "resizeMode": "stretch",
        "maxPixels": "89478485",
        "applyExifOrientation": "false",
        "fastDecode": "false",
        "threads": "0",
    }
    images = _engine.decode_images(batch(files), list(options.items())).column("image")
    pixels = [np.frombuffer(image["data"].as_py(), np.uint8) for image in images]
    return files, np.stack(pixels).reshape(PICTURES, row.height, row.width, 3)[..., ::-1]


def batch(files: list[bytes]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(files, pa.binary())], ["content"])


def core_outputs(bundle: Path, files: list[bytes]) -> seeded.Outputs:
    _native.load_tensorflow([("tensorflowPath", ""), ("tensorflowClasspath", ""), ("python", sys.executable)])
    manifest = json.loads(_engine.describe_bundle(bundle)[0])
    keys = ("avg", "max", "none", *(["predictions"] if "predictions" in manifest["outputs"] else []))
    return {key: _core_output(bundle, files, key) for key in keys}


def _core_output(bundle: Path, files: list[bytes], key: str) -> npt.NDArray[Any]:
    options = {
        "model": str(bundle),
        "task": "predictions" if key == "predictions" else "features",
        "pooling": "avg" if key == "predictions" else key,
        "topK": "5",
        "labels": "",
        "scaleHint": "SCALE_AREA_AVERAGING",
        "resizeMode": "stretch",
        "maxPixels": "89478485",
        "applyExifOrientation": "false",
        "fastDecode": "false",
        "threads": "2",
    }
    model = _native.Model(list(options.items()))
    result = pa.record_batch(model.run(batch(files)))
    assert result.column("error").null_count == len(files)
    output = result.column("output")
    return np.asarray(output.flatten()).reshape(len(files), -1)


def stage_outputs(spark: Any, bundle: Path, files: list[bytes]) -> seeded.Outputs:
    frame = spark.createDataFrame(
        [(i, bytearray(file)) for i, file in enumerate(files)], "id int, content binary"
    )
    common = {"inputCol": "content", "outputCol": "output", "modelName": str(bundle)}
    stages = {p: sparkdl.DeepImageFeaturizer(pooling=p, **common) for p in ("avg", "max", "none")}
    stages["predictions"] = sparkdl.DeepImagePredictor(**common)
    found = {}
    for key, stage in stages.items():
        rows = stage.transform(frame.coalesce(1)).select("id", "output").collect()
        found[key] = np.stack([row["output"].toArray() for row in sorted(rows, key=lambda row: row["id"])])
    return found


def assert_equal(ours: seeded.Outputs, reference: seeded.Outputs) -> None:
    for key, expected in reference.items():
        difference = np.abs(ours[key] - expected).max() / np.abs(expected).max()
        assert difference <= TOLERANCE, f"{key} differs from Keras by {difference:.2e}"


def assert_tells_pictures_apart(reference: seeded.Outputs) -> None:
    """A comparison on outputs that hardly depend on the picture would prove nothing."""
    for key, values in reference.items():
        closest = min(np.abs(values[i] - values[j]).max() for i in range(PICTURES) for j in range(i))
        assert closest / np.abs(values).max() > 0.01, f"{key} hardly reacts to the picture"


@pytest.mark.parametrize("row", named_models(), ids=lambda row: row.name)
def test_features_and_logits_equal_keras(row: NamedModel, spark: Any, face: str, tmp_path: Path) -> None:
    files, pixels = pictures(row)
    bundle, file = tmp_path / "seeded.sparkdl", tmp_path / "seeded.keras"
    # In a process of its own: what Keras and export take for the larger networks is given back at its end.
    with ProcessPoolExecutor(1, get_context("spawn")) as keras_process:
        reference = keras_process.submit(seeded.exported, row, pixels, bundle, file).result()
    assert_tells_pictures_apart(reference)
    if face == "python":
        assert_equal(core_outputs(bundle, files), reference)
    assert_equal(stage_outputs(spark, bundle, files), reference)
    os.unlink(bundle)  # Up to 550 MB each, and the file.
    if face == "python":
        _engine.convert_keras(file, bundle, row.name)  # Read without Keras, the file gives the same.
        assert_equal(core_outputs(bundle, files), reference)
        os.unlink(bundle)
    os.unlink(file)


@pytest.mark.once
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0"])
def test_weights_alone_are_read_without_keras(name: str, tmp_path: Path) -> None:
    """As Keras 3 writes them, and in the layout of the published files, whole and without the classifier."""
    row = next(row for row in named_models() if row.name == name)
    files, pixels = pictures(row)
    with ProcessPoolExecutor(1, get_context("spawn")) as keras_process:
        reference = keras_process.submit(seeded.weights_alone, row, pixels, tmp_path).result()
    assert_tells_pictures_apart(reference)
    # The network of the table ends with the classifier's softmax, the seeded one before it.
    powers = np.exp(reference["predictions"] - reference["predictions"].max(1, keepdims=True))
    reference["predictions"] = powers / powers.sum(1, keepdims=True)
    features = {key: value for key, value in reference.items() if key != "predictions"}
    expected = {"new.weights.h5": reference, "published.h5": reference, "published_notop.h5": features}
    for file, outputs in expected.items():
        bundle = tmp_path / f"{file}.sparkdl"
        _engine.convert_keras(tmp_path / file, bundle, row.name)
        found = core_outputs(bundle, files)
        assert found.keys() == outputs.keys()
        assert_equal(found, outputs)
    with pytest.raises(sparkdl.SparkDLValueError, match=r"the weights of .* layers, but the model has"):
        _engine.convert_keras(tmp_path / "published.h5", tmp_path / "wrong.sparkdl", "VGG16")


@pytest.mark.parametrize(
    ("file", "network"),
    [
        ("mobilenet_0.25_224.keras", {}),
        ("mobilenet_0.25_224.h5", {}),
        ("mobilenet_0.25_224.weights.h5", {"alpha": 0.25}),
        ("mobilenet_2_5_224_tf.h5", {"alpha": 0.25}),
    ],
)
def test_real_weights_of_every_format_give_the_features_of_keras(
    file: str, network: dict[str, Any], spark: Any, shared_data: Path, tmp_path: Path
) -> None:
    row = next(row for row in named_models() if row.name == "MobileNet")
    files, pixels = pictures(row)
    model = keras.saving.load_model(shared_data / "models" / "mobilenet_0.25_224.keras", compile=False)
    reference = seeded.keras_outputs(model, row, pixels)
    weights = str(shared_data / "models" / file)
    bundle = sparkdl.export("MobileNet", tmp_path / "real.sparkdl", weights=weights, network=network)
    assert_equal(core_outputs(bundle, files), reference)
    assert_equal(stage_outputs(spark, bundle, files), reference)


def test_the_predictor_names_what_photographs_show(spark: Any, shared_data: Path, tmp_path: Path) -> None:
    skimage_data = pytest.importorskip("skimage.data")
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    photographs = [sklearn_datasets.load_sample_image("china.jpg"), skimage_data.coffee()]
    files = [(i, bytearray(_jpeg(pixels))) for i, pixels in enumerate(photographs)]
    predictor = sparkdl.DeepImagePredictor(
        inputCol="content",
        outputCol="classes",
        modelName="MobileNet",
        weights=str(shared_data / "models" / "mobilenet_0.25_224.keras"),
        decodePredictions=True,
        topK=3,
    )
    frame = spark.createDataFrame(files, "id int, content binary")
    rows = sorted(predictor.transform(frame).select("id", "classes").collect(), key=lambda row: row["id"])
    best = [row["classes"][0] for row in rows]
    assert [(top["class"], top["description"]) for top in best] == [
        ("n04346328", "stupa"),
        ("n07920052", "espresso"),
    ]
    for row in rows:
        scores = [top["probability"] for top in row["classes"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)


def _jpeg(pixels: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()
