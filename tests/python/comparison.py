"""What the core makes of pictures with a network, beside what Keras makes of them."""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import seeded
from sparkdl import _engine, _native
from sparkdl.models import NamedModel

TOLERANCE = 1e-4
"""Of max|a - b| / max|b|."""

FAMILIES = (
    "InceptionV3",
    "InceptionResNetV2",
    "Xception",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "MobileNet_0.25",
    "MobileNetV2_0.35",
    "MobileNetV3Small",
    "DenseNet121",
    "NASNetMobile",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ConvNeXtTiny",
)
"""One network of each family; `make zoo` compares all."""

_LONG = ("Xception", "VGG16", "DenseNet121", "NASNetMobile", "EfficientNetV2B0", "ConvNeXtTiny")
EACH_FAMILY = [pytest.param(name, marks=[pytest.mark.long] if name in _LONG else []) for name in FAMILIES]
"""For tests of all of them: those with a deep or a large one take most of a minute."""

WHOLE_MODELS = ("model.keras", "model.h5")
WEIGHTS_ALONE = ("new.weights.h5", "published.h5")
WITHOUT_TOP = ("new_notop.weights.h5", "published_notop.h5")

OPTIONS = {
    "scaleHint": "SCALE_AREA_AVERAGING",
    "resizeMode": "stretch",
    "maxPixels": "89478485",
    "applyExifOrientation": "false",
    "fastDecode": "false",
}


def pictures(row: NamedModel, count: int = 8) -> tuple[list[bytes], seeded.Pixels]:
    """Files of odd sizes, and the pixels that our own resizing makes of them, RGB."""
    rng = np.random.default_rng(8)
    files = [seeded.png(seeded.photograph(rng, i)) for i in range(count)]
    options = {**OPTIONS, "height": str(row.height), "width": str(row.width), "threads": "0"}
    images = _engine.decode_images(batch(files), list(options.items())).column("image")
    pixels = [np.frombuffer(image["data"].as_py(), np.uint8) for image in images]
    return files, np.stack(pixels).reshape(count, row.height, row.width, 3)[..., ::-1]


def batch(files: list[bytes]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(files, pa.binary())], ["content"])


def apart(function: Any, *arguments: Any) -> Any:
    """Runs a function in a process of its own, which gives back what Keras takes for the larger networks."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def manifest(bundle: Path) -> dict[str, Any]:
    return dict(json.loads(_engine.describe_bundle(bundle)[0]))


def core_outputs(
    bundle: Path, files: list[bytes], keys: Sequence[str] = ("avg", "max", "none", "predictions")
) -> seeded.Outputs:
    """Those of the outputs that the bundle has."""
    _native.load_tensorflow([("tensorflowPath", ""), ("tensorflowClasspath", ""), ("python", sys.executable)])
    scores = "predictions" in manifest(bundle)["outputs"]
    return {key: _core_output(bundle, files, key) for key in keys if scores or key != "predictions"}


def _core_output(bundle: Path, files: list[bytes], key: str) -> npt.NDArray[Any]:
    options = {
        **OPTIONS,
        "model": str(bundle),
        "task": "predictions" if key == "predictions" else "features",
        "pooling": "avg" if key == "predictions" else key,
        "topK": "5",
        "labels": "",
        "threads": "2",
    }
    model = _native.Model(list(options.items()))
    result = pa.record_batch(model.run(batch(files)))
    assert result.column("error").null_count == len(files)
    output = result.column("output")
    return np.asarray(output.flatten()).reshape(len(files), -1)


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def differences(ours: seeded.Outputs, reference: seeded.Outputs) -> dict[str, float]:
    """max|a - b| / max|b| of each output that both have."""
    return {
        key: float(np.abs(ours[key] - reference[key]).max() / np.abs(reference[key]).max())
        for key in ours.keys() & reference.keys()
    }


def assert_equal(ours: seeded.Outputs, reference: seeded.Outputs) -> None:
    assert ours.keys() == reference.keys()
    for key, difference in differences(ours, reference).items():
        assert difference <= TOLERANCE, f"{key} differs from Keras by {difference:.2e}"


def assert_tells_pictures_apart(reference: seeded.Outputs) -> None:
    """A comparison on outputs that hardly depend on the picture would prove nothing."""
    for key, values in reference.items():
        count = len(values)
        closest = min(np.abs(values[i] - values[j]).max() for i in range(count) for j in range(i))
        assert closest / np.abs(values).max() > 0.01, f"{key} hardly reacts to the picture"
