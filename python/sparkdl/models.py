"""The table of built-in models: what each network takes, where it is cut, where its weights are."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

from sparkdl import _engine
from sparkdl.exceptions import SparkDLValueError

NORMALIZATIONS = ("tf", "caffe", "torch", "none")
CHANNEL_ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class WeightFile:
    """A weight file that Keras publishes; `hash` is None where Keras publishes none."""

    url: str
    hash: str | None
    hash_algorithm: str | None
    cached_as: str | None = None
    """Its name in Keras' own cache, where that is another."""

    @property
    def name(self) -> str:
        """The file's name at the host, at mirrors and in our cache."""
        return urlparse(self.url).path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class NamedModel:
    """A row of the table.

    Features are the output of `feature_layer`: the last one before global pooling, or for VGG the last
    pooling before its dense layers, which is what Keras calls the network without its top.
    """

    name: str
    keras_module: str
    keras_class: str
    """Its name in `keras.applications`; the module has its preprocessing."""
    keras_arguments: dict[str, Any]
    """What the builder is called with to get this network, as `{"alpha": 0.25}`."""
    height: int
    width: int
    channel_order: str
    normalization: str
    feature_layer: str
    """As a new process names it: Keras counts layers without a name of their own."""
    layers: dict[str, int]
    """How many layers of each class the features depend on, without those idle at inference."""
    features: tuple[int, ...]
    classes: int
    parameters: int
    """Of the network with its top, those of batch norm's statistics included."""
    top: WeightFile
    no_top: WeightFile
    published_rescaling: tuple[float, ...] | None
    """What the published weights want multiplied onto the output of the network's `Normalization` layer."""
    bundle_key: str
    """Names the cached bundle of the published weights: of their hash or, where there is none, their URL."""
    license: str


def supported_models() -> list[str]:
    """The names that `modelName` takes, in the order of the table."""
    return list(_table())


def named_model(name: str) -> NamedModel:
    """The row of a model; names are case-sensitive, as Keras spells them."""
    row = _table().get(name)
    if row is None:
        known = ", ".join(supported_models())
        raise SparkDLValueError(
            f"Unknown model {name}. Known models: {known}; or give the path of a bundle (*.sparkdl).",
            "InvalidArgument",
        )
    return row


def named_models() -> list[NamedModel]:
    """Every row of the table, in order."""
    return list(_table().values())


def supportedModels() -> list[NamedModel]:
    """The built-in models: what `modelName` takes, in the order of the table.

    Of use in each: `name`; `height` and `width` of its input in pixels; `features`, the shape of its last
    feature map (height, width, channels); `parameters`, how many numbers its weights are; `license` of the
    published weights.
    """
    return named_models()


@functools.cache
def imagenet_labels() -> tuple[tuple[str, str], ...]:
    """Synset and label of ImageNet's 1,000 classes, in class order, as Keras spells them."""
    return tuple((synset, label) for synset, label in json.loads(_engine.imagenet_labels()))


@functools.cache
def _table() -> dict[str, NamedModel]:
    return {row["name"]: _row(row) for row in json.loads(_engine.named_models())["models"]}


def _row(row: dict[str, Any]) -> NamedModel:
    weights = {
        key: WeightFile(w["url"], w["hash"], w["hashAlgorithm"], w.get("cachedAs"))
        for key, w in row["weights"].items()
    }
    rescaling = row["publishedRescaling"]
    return NamedModel(
        name=row["name"],
        keras_module=row["kerasModule"],
        keras_class=row["kerasClass"],
        keras_arguments=row["kerasArguments"],
        height=row["height"],
        width=row["width"],
        channel_order=row["channelOrder"],
        normalization=row["normalization"],
        feature_layer=row["featureLayer"],
        layers=row["layers"],
        features=tuple(row["features"]),
        classes=row["classes"],
        parameters=row["parameters"],
        top=weights["top"],
        no_top=weights["noTop"],
        published_rescaling=None if rescaling is None else tuple(rescaling),
        bundle_key=row["bundleKey"],
        license=row["license"],
    )


supportedModels.__module__ = "sparkdl"
