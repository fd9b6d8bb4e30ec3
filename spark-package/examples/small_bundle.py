"""Writes a small network as a bundle: one zip file with the frozen graph and a manifest that says how to
feed it.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from patch_words import SIDE
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def _frozen(outputs: Callable[[tf.Tensor], dict[str, tf.Tensor]]) -> tuple[bytes, dict[str, dict[str, Any]]]:
    """The graph with its variables as constants, and where each output is found in it."""
    spec = tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="image")
    concrete = convert_variables_to_constants_v2(
        tf.function(outputs, input_signature=[spec]).get_concrete_function()
    )
    places = {}
    names = {
        "features": "features",
        "featuresAvg": "features_avg",
        "featuresMax": "features_max",
        "predictions": "predictions",
    }
    for output, name in names.items():
        tensor = concrete.graph.get_tensor_by_name(f"{name}:0")
        places[output] = {"tensor": f"{name}:0", "shape": tensor.shape.as_list()[1:]}
    return concrete.graph.as_graph_def().SerializeToString(deterministic=True), places


def write_bundle(path: Path, outputs: Callable[[tf.Tensor], dict[str, tf.Tensor]], labels: list[str]) -> None:
    """`outputs` takes float32 [n, SIDE, SIDE, 3] in -1…1, RGB; `labels` name its predictions."""
    graph, places = _frozen(outputs)
    manifest = {
        "format": "sparkdl-bundle",
        "version": 1,
        "name": "SmallNetwork",
        "input": {
            "tensor": "image:0",
            "height": SIDE,
            "width": SIDE,
            "channels": 3,
            "channelOrder": "RGB",
            "normalization": "tf",
        },
        "outputs": places,
        "labels": [[label, label] for label in labels],
        "graph": {"file": "graph.pb", "sha256": hashlib.sha256(graph).hexdigest()},
        "source": {
            "weights": "train_small_network.py",
            "sha256": "",
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
        "license": "Apache-2.0",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name, data in [("manifest.json", json.dumps(manifest, indent=1).encode()), ("graph.pb", graph)]:
            bundle.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)
