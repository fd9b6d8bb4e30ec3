"""`sparkdl.export`: a Keras model becomes a bundle, the one file that the stages run in both languages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparkdl import _bundles, _keras
from sparkdl._bundle_file import Source, write_bundle
from sparkdl._cache import cache_folder, digest, local_copy, locked
from sparkdl._export_tensors import export_tensors
from sparkdl._weights import published_file
from sparkdl.exceptions import SparkDLValueError
from sparkdl.models import (
    CHANNEL_ORDERS,
    NORMALIZATIONS,
    NamedModel,
    imagenet_labels,
    named_model,
    supported_models,
)

Labels = Sequence[str] | Sequence[Sequence[str]]


@dataclass(frozen=True)
class Preprocessing:
    """What the core does to pixels before the network sees them, where it is not as the table says."""

    normalization: str | None = None
    channel_order: str | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("normalization", self.normalization, NORMALIZATIONS),
            ("channel_order", self.channel_order, CHANNEL_ORDERS),
        ):
            if value is not None and value not in known:
                raise SparkDLValueError(f"{what} must be one of {', '.join(known)} but was {value!r}.")


def export(
    model: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    weights: Any = "imagenet",
    labels: Labels | None = None,
    name: str | None = None,
    normalization: str | None = None,
    channel_order: str | None = None,
    network: Mapping[str, Any] | None = None,
    feature_layer: str | None = None,
    tensors: bool = False,
    input_size: tuple[int, int] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes a Keras model as a bundle and returns its path; the same weights give the same bytes.

    `model` is a name of the table (its network, with `weights`: "imagenet", a Keras file or a live
    keras.Model), the path of a whole Keras file, or a live functional or sequential keras.Model. Without
    `output` the bundle goes into the cache folder, where the stages of both languages find it.

    `labels` names the classes: strings, or pairs of class and description; without it networks of 1,000
    classes of a known family have ImageNet's. `normalization` ("tf", "caffe", "torch", "none") and
    `channel_order` ("RGB", "BGR") are needed for a network of no family in the table. `network` holds
    arguments of Keras' builder that weights alone do not say, as `{"alpha": 0.25}`. `feature_layer` is the
    layer whose output are the features, in place of the table's.

    Any other model (with several inputs or outputs, or none for pictures), and with `tensors` every model,
    becomes a bundle on tensors, for KerasTransformer and KerasImageFileTransformer; `input_size` is height
    and width of pictures where it leaves them open.

    In files custom layers, Lambda layers and anything else that carries code are refused. Raises
    SparkDLValueError.
    """
    preprocessing = Preprocessing(normalization, channel_order)
    folder = cache_folder(None, cache_dir)
    if isinstance(model, str) and model in supported_models():
        if tensors:
            raise SparkDLValueError(
                f"{model} is a network for pictures: give its file to have it on tensors."
            )
        row = named_model(model)
        source = _named_source(row, weights, network, folder, feature_layer)
    else:
        row, whole = None, _whole_source(model, folder)
        of_pictures = normalization or channel_order or labels or _keras.is_picture_model(whole.network)
        if tensors or not of_pictures:
            return export_tensors(whole, output, name, input_size, folder)
        source = replace(whole, network=_keras.cut(whole.network, None, whole.what, None, feature_layer))
    manifest = _manifest(source, preprocessing, labels, name)
    if feature_layer:
        manifest["featureLayer"] = feature_layer
    if output is not None:
        return write(Path(output), source, manifest)
    known = row or source.network.row
    key = row.bundle_key if row and source.weights == "imagenet" else source.sha256[:16]
    name = known.name if known else manifest["name"]
    target = _bundles.cached_path(str(name), key, folder, feature_layer or "")
    with locked(target):
        return write(target, source, manifest)


def _named_source(
    row: NamedModel,
    given: Any,
    arguments: Mapping[str, Any] | None,
    folder: Path,
    feature_layer: str | None,
) -> Source:
    if isinstance(given, str) and given == "imagenet":
        if arguments:
            raise SparkDLValueError(
                f"The published weights are for {row.name} as it is: network must be empty."
            )
        file = published_file(row, folder)
        return Source("imagenet", digest(file), _keras.published(file, row, feature_layer))
    if isinstance(given, (str, os.PathLike)):
        file = local_copy(os.fspath(given), None, folder)
        return Source("file", digest(file), _keras.from_file(file, row, arguments, feature_layer))
    network = _keras.cut(given, row, "The live model", None, feature_layer)
    return Source("model", _bundles.source_digest(given), network)


def _whole_source(given: Any, folder: Path) -> Source:
    """A whole model as Keras has it."""
    if not isinstance(given, (str, os.PathLike)):
        _keras.check_symbolic(given, "The live model")
        return Source("model", _bundles.source_digest(given), given)
    path = os.fspath(given)
    if isinstance(given, str) and not path.endswith((".keras", ".h5", ".hdf5")):
        named_model(path)  # Raises, with the names it could have been.
    file = local_copy(path, None, folder)
    return Source("file", digest(file), _keras.whole_model(file), str(file))


def write(target: Path, source: Source, manifest: dict[str, Any]) -> Path:
    """Freezes the network and writes it with its manifest as a bundle."""
    from sparkdl._freeze import INPUT, OUTPUTS, freeze

    graph, shapes = freeze(source.network)
    manifest["input"]["tensor"] = f"{INPUT}:0"
    manifest["outputs"] = {
        key: {"tensor": f"{OUTPUTS[key]}:0", "shape": shape} for key, shape in shapes.items()
    }
    _check_labels(manifest, shapes)
    return write_bundle(target, manifest, graph)


def _manifest(
    source: Source, preprocessing: Preprocessing, labels: Labels | None, name: str | None
) -> dict[str, Any]:
    import keras
    import tensorflow as tf

    network, row = source.network, source.network.row
    normalization = preprocessing.normalization or (row and row.normalization)
    if normalization is None:
        raise SparkDLValueError(
            f"{source.network.model.name} is of no family we know, so say how its pixels are normalised: "
            f'normalization= one of {", ".join(NORMALIZATIONS)} (and channel_order="BGR" if it wants that). '
            "For KerasTransformer and KerasImageFileTransformer say tensors=True (--tensors) instead."
        )
    return {
        "format": "sparkdl-bundle",
        "version": 1,
        "name": name or (row.name if row else network.model.name),
        "input": {
            "tensor": "",
            "height": network.height,
            "width": network.width,
            "channels": 3,
            "channelOrder": preprocessing.channel_order or (row.channel_order if row else "RGB"),
            "normalization": normalization,
        },
        "outputs": {},
        "labels": _labels(network, row, labels),
        "graph": {"file": "graph.pb", "sha256": ""},
        "source": {
            "weights": source.weights,
            "sha256": source.sha256,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
        "license": row.license if row and source.weights == "imagenet" else "",
    }


def _labels(network: Any, row: NamedModel | None, labels: Labels | None) -> list[list[str]] | None:
    if labels is not None:
        return [
            [label, label] if isinstance(label, str) else [str(part) for part in label] for label in labels
        ]
    predictions = network.predictions
    if row is not None and predictions is not None and predictions.shape[-1] == len(imagenet_labels()):
        return [list(pair) for pair in imagenet_labels()]
    return None


def _check_labels(manifest: dict[str, Any], shapes: dict[str, list[int]]) -> None:
    labels = manifest["labels"]
    if labels is None:
        return
    if "predictions" not in shapes:
        raise SparkDLValueError(f"{manifest['name']} has no predictions, so it takes no labels.")
    classes = shapes["predictions"][0]
    if len(labels) != classes or any(len(pair) != 2 for pair in labels):
        raise SparkDLValueError(
            f"{manifest['name']} has {classes} classes, so it takes {classes} labels, each a string or a "
            f"pair of class and description; {len(labels)} were given."
        )


export.__module__ = "sparkdl"
