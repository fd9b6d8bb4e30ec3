"""The networks of the table give what Keras gives, through the core and through the stages."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import seeded
import sparkdl
from comparison import (
    EACH_FAMILY,
    WEIGHTS_ALONE,
    WHOLE_MODELS,
    WITHOUT_TOP,
    apart,
    assert_equal,
    assert_tells_pictures_apart,
    core_outputs,
    differences,
    manifest,
    pictures,
    softmax,
)
from sparkdl import _engine
from sparkdl.models import named_model

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.classic

IN_STAGES = ("ResNet50", "MobileNetV2_0.35", "DenseNet121", "EfficientNetB0")
"""One for each normalization, in every face."""


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


@pytest.mark.once
@pytest.mark.parametrize("name", EACH_FAMILY)
def test_every_form_of_file_gives_features_and_logits_of_keras(name: str, tmp_path: Path) -> None:
    """Read without Keras: whole models, and weights alone as Keras 3 writes them and as it publishes them."""
    row = named_model(name)
    files, pixels = pictures(row, 4)
    reference = apart(seeded.written, row, pixels, tmp_path)
    assert_tells_pictures_apart(reference)
    scores = reference | {"predictions": softmax(reference["predictions"])}
    features = {key: value for key, value in reference.items() if key != "predictions"}
    # The network of the table ends with the classifier's softmax, the seeded one before it.
    for forms, expected in ((WHOLE_MODELS, reference), (WEIGHTS_ALONE, scores), (WITHOUT_TOP, features)):
        graphs = set()
        for form in forms:
            bundle = tmp_path / "model.sparkdl"
            _engine.convert_keras(tmp_path / form, bundle, name)
            graph = manifest(bundle)["graph"]["sha256"]
            if graph not in graphs:  # The same graph gives the same numbers.
                assert_equal(core_outputs(bundle, files), expected)
            graphs.add(graph)
            os.unlink(tmp_path / form)  # Up to 550 MB each, and the bundle.
            os.unlink(bundle)


@pytest.mark.once
def test_published_weights_get_the_rescaling_that_keras_builds_for_them(tmp_path: Path) -> None:
    row = named_model("EfficientNetB0")
    files, pixels = pictures(row, 3)
    file, bundle = tmp_path / "published.h5", tmp_path / "model.sparkdl"
    expected = apart(seeded.written_as_published, row, pixels, file)
    expected["predictions"] = softmax(expected["predictions"])
    assert_tells_pictures_apart(expected)
    _engine.convert_keras(file, bundle, row.name, published=True)
    assert_equal(core_outputs(bundle, files), expected)
    _engine.convert_keras(file, bundle, row.name, published=False)
    assert differences(core_outputs(bundle, files), expected)["avg"] > 0.01


RUN = """
import sys
from pathlib import Path
import comparison, seeded, numpy as np
comparison.core_outputs(Path(sys.argv[1]), [seeded.png(np.zeros((32, 32, 3), np.uint8))], ["avg"])
"""


@pytest.mark.once
def test_tensorflow_optimizes_nasnet_without_an_error(tmp_path: Path) -> None:
    """Its optimizer stumbles over a rectified sum of convolutions which something else takes too."""
    model = keras.applications.NASNetMobile(weights=None, input_shape=(32, 32, 3))
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":  # Without a shift there is nothing to fuse.
            layer.beta.assign(layer.beta + 0.1)
    model.save(tmp_path / "model.keras")
    bundle = tmp_path / "model.sparkdl"
    _engine.convert_keras(tmp_path / "model.keras", bundle, "NASNetMobile")
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
    )
    command = [sys.executable, "-c", RUN, str(bundle)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "failed" not in done.stderr


@pytest.mark.parametrize("name", IN_STAGES)
def test_stages_give_features_and_logits_of_keras(name: str, spark: Any, face: str, tmp_path: Path) -> None:
    """With a bundle that Keras itself was asked for."""
    row = named_model(name)
    files, pixels = pictures(row)
    bundle = tmp_path / "seeded.sparkdl"
    reference = apart(seeded.exported, row, pixels, bundle)
    assert_tells_pictures_apart(reference)
    if face == "python":
        assert_equal(core_outputs(bundle, files), reference)
    assert_equal(stage_outputs(spark, bundle, files), reference)


@pytest.mark.once
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    row = named_model("MobileNetV2_0.35")
    apart(seeded.written, row, pictures(row, 2)[1], tmp_path)
    with pytest.raises(sparkdl.SparkDLValueError, match=r"the weights of .* layers, but the model has"):
        _engine.convert_keras(tmp_path / "published.h5", tmp_path / "wrong.sparkdl", "VGG16")
    with pytest.raises(sparkdl.SparkDLValueError, match=r"has the shape .* needs .* another model"):
        _engine.convert_keras(tmp_path / "published.h5", tmp_path / "wrong.sparkdl", "MobileNetV2")
    with pytest.raises(sparkdl.SparkDLValueError, match=r"no MobileNetV3Small: it has no feature map"):
        _engine.convert_keras(tmp_path / "model.keras", tmp_path / "wrong.sparkdl", "MobileNetV3Small")


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
    row = named_model("MobileNet")
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
