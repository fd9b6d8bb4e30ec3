"""The params of the stages: names, docs, defaults and checks as in the Scala traits of `sparkdl.params`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.exceptions import SparkDLValueError

P = TypeVar("P", bound=Params)

SCALE_HINTS = (
    "SCALE_AREA_AVERAGING",
    "SCALE_SMOOTH",
    "SCALE_DEFAULT",
    "SCALE_FAST",
    "SCALE_REPLICATE",
    "SCALE_BILINEAR",
    "SCALE_BICUBIC",
    "SCALE_TF_BILINEAR",
)
DEFAULT_MAX_PIXELS = 89_478_485
"""The limit from which Pillow warns of a decompression bomb."""


def _choice(param: str, words: tuple[str, ...]) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        word = TypeConverters.toString(value)
        if word not in words:
            known = ", ".join(f'"{known}"' for known in words)
            raise SparkDLValueError(f'{param} must be one of {known} but was "{word}".')
        return word

    return convert


def _at_least(param: str, least: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        number = TypeConverters.toInt(value)
        if number < least:
            raise SparkDLValueError(f"{param} must be at least {least} but was {number}.")
        return number

    return convert


def _not_empty(param: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        text = TypeConverters.toString(value)
        if not text:
            raise SparkDLValueError(f"{param} must not be empty.")
        return text

    return convert


def is_keras_model(value: Any) -> bool:
    """Whether this is a live `keras.Model`; Keras itself is not imported for the question."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.Model)


def _weights(value: Any) -> Any:
    return value if is_keras_model(value) else _not_empty("weights")(value)


class HasModelName(Params):
    """The network: a built-in model, or a bundle."""

    modelName: Param[str] = Param(
        Params._dummy(),
        "modelName",
        "name of a built-in model as Keras spells it, or path or URI of a bundle (*.sparkdl)",
        _not_empty("modelName"),
    )

    def getModelName(self) -> str:
        """Name of a built-in model, or path or URI of a bundle."""
        return self.getOrDefault(self.modelName)

    def setModelName(self: P, value: str) -> P:
        """Sets the name of a built-in model as Keras spells it, or path or URI of a bundle (`*.sparkdl`)."""
        return self._set(modelName=value)


class HasWeights(Params):
    """The weights of a built-in model."""

    weights: Param[Any] = Param(
        Params._dummy(),
        "weights",
        'weights of a built-in model: "imagenet" (as Keras publishes them), '
        "or path or URI of a Keras file (.keras, .h5)",
        _weights,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(weights="imagenet")

    def getWeights(self) -> Any:
        """`"imagenet"`, a path or URI, or the `keras.Model` that was set."""
        return self.getOrDefault(self.weights)

    def setWeights(self: P, value: Any) -> P:
        """Sets `"imagenet"`, the path or URI of a Keras file (`.keras`, `.h5`), or a live `keras.Model`.

        A bundle has its own weights: this stays `"imagenet"` then.
        """
        return self._set(weights=value)


class HasPooling(Params):
    """What becomes of the last feature map."""

    pooling: Param[str] = Param(
        Params._dummy(),
        "pooling",
        'pooling of the last feature map over its height and width: "avg", "max", '
        'or "none" for the whole map, flattened',
        _choice("pooling", ("avg", "max", "none")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(pooling="avg")

    def getPooling(self) -> str:
        """`"avg"`, `"max"` or `"none"`."""
        return self.getOrDefault(self.pooling)

    def setPooling(self: P, value: str) -> P:
        """Sets `"avg"`, `"max"`, or `"none"`: the whole map, flattened by height, width, channel."""
        return self._set(pooling=value)


class HasScaleHint(Params):
    """The filter that resizes pictures."""

    scaleHint: Param[str] = Param(
        Params._dummy(),
        "scaleHint",
        "filter that resizes pictures: SCALE_AREA_AVERAGING, SCALE_SMOOTH (box); SCALE_DEFAULT, SCALE_FAST, "
        "SCALE_REPLICATE (nearest); SCALE_BILINEAR, SCALE_BICUBIC (as Pillow); "
        "SCALE_TF_BILINEAR (as tf.image.resize)",
        _choice("scaleHint", SCALE_HINTS),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(scaleHint="SCALE_AREA_AVERAGING")

    def getScaleHint(self) -> str:
        """The filter that resizes pictures to the size of the model's input."""
        return self.getOrDefault(self.scaleHint)

    def setScaleHint(self: P, value: str) -> P:
        """Sets the filter that resizes pictures to the size of the model's input."""
        return self._set(scaleHint=value)


class HasResizeMode(Params):
    """What becomes of a picture whose sides are not in the ratio of the model's input."""

    resizeMode: Param[str] = Param(
        Params._dummy(),
        "resizeMode",
        'how a picture fills the model\'s input: "stretch", "crop" (resize the short side, cut the centre), '
        'or "pad" (resize the long side, black bars)',
        _choice("resizeMode", ("stretch", "crop", "pad")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(resizeMode="stretch")

    def getResizeMode(self) -> str:
        """`"stretch"`, `"crop"` or `"pad"`."""
        return self.getOrDefault(self.resizeMode)

    def setResizeMode(self: P, value: str) -> P:
        """Sets `"stretch"`, `"crop"` (short side, centre cut) or `"pad"` (long side, black bars)."""
        return self._set(resizeMode=value)


class HasOutputMode(Params):
    """The type of the numbers that come out."""

    outputMode: Param[str] = Param(
        Params._dummy(),
        "outputMode",
        "type of the output column: \"vector\" (MLlib's, with its size in the column's metadata) "
        'or "array" (of floats)',
        _choice("outputMode", ("vector", "array")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(outputMode="vector")

    def getOutputMode(self) -> str:
        """`"vector"` or `"array"`."""
        return self.getOrDefault(self.outputMode)

    def setOutputMode(self: P, value: str) -> P:
        """Sets `"vector"` (MLlib's, of doubles, its size in its metadata) or `"array"` (of floats)."""
        return self._set(outputMode=value)


class HasBatchSize(Params):
    """The rows of one native call."""

    batchSize: Param[int] = Param(
        Params._dummy(),
        "batchSize",
        "rows handed to the native code at a time (at least 1)",
        _at_least("batchSize", 1),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(batchSize=32)

    def getBatchSize(self) -> int:
        """Rows handed to the native code at a time."""
        return self.getOrDefault(self.batchSize)

    def setBatchSize(self: P, value: int) -> P:
        """Sets the rows handed to the native code at a time, from 1 on."""
        return self._set(batchSize=value)


class HasHandleInvalid(Params):
    """What becomes of a row without a usable picture."""

    handleInvalid: Param[str] = Param(
        Params._dummy(),
        "handleInvalid",
        'what becomes of a row without a usable picture: "keep" (null output, the reason in errorCol), '
        '"skip" (the row is dropped), or "error" (the job stops, naming the file)',
        _choice("handleInvalid", ("keep", "skip", "error")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(handleInvalid="keep")

    def getHandleInvalid(self) -> str:
        """`"keep"`, `"skip"` or `"error"`."""
        return self.getOrDefault(self.handleInvalid)

    def setHandleInvalid(self: P, value: str) -> P:
        """Sets what becomes of a row without a usable picture (null, Spark's invalid-image row, undecodable).

        `"keep"`: null output, the reason in errorCol; `"skip"`: the row is dropped; `"error"`: the job stops,
        naming the file.
        """
        return self._set(handleInvalid=value)


class HasErrorCol(Params):
    """The column of reasons."""

    errorCol: Param[str] = Param(
        Params._dummy(),
        "errorCol",
        "column for the reason why a row has no output (null where it has one); none when unset",
        _not_empty("errorCol"),
    )

    def getErrorCol(self) -> str:
        """The column for the reason why a row has no output."""
        return self.getOrDefault(self.errorCol)

    def setErrorCol(self: P, value: str) -> P:
        """Sets the column for the reason why a row has no output: a string, null where the row is fine."""
        return self._set(errorCol=value)


class HasPictureOptions(Params):
    """How encoded pictures are decoded."""

    maxPixels: Param[int] = Param(
        Params._dummy(),
        "maxPixels",
        "most pixels (width times height) a picture may have; larger ones are invalid (at least 1)",
        _at_least("maxPixels", 1),
    )
    applyExifOrientation: Param[bool] = Param(
        Params._dummy(),
        "applyExifOrientation",
        "whether the orientation in a picture's EXIF data is applied",
        TypeConverters.toBoolean,
    )
    fastDecode: Param[bool] = Param(
        Params._dummy(),
        "fastDecode",
        "whether JPEG pictures much larger than needed may be decoded at reduced size: "
        "faster, a little less exact",
        TypeConverters.toBoolean,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(maxPixels=DEFAULT_MAX_PIXELS, applyExifOrientation=False, fastDecode=False)

    def getMaxPixels(self) -> int:
        """Most pixels (width times height) a picture may have."""
        return self.getOrDefault(self.maxPixels)

    def setMaxPixels(self: P, value: int) -> P:
        """Sets the most pixels (width times height) of a picture; larger ones are invalid."""
        return self._set(maxPixels=value)

    def getApplyExifOrientation(self) -> bool:
        """Whether the orientation in a picture's EXIF data is applied."""
        return self.getOrDefault(self.applyExifOrientation)

    def setApplyExifOrientation(self: P, value: bool) -> P:
        """Sets whether the orientation in EXIF data is applied. Spark's image source and Keras do not."""
        return self._set(applyExifOrientation=value)

    def getFastDecode(self) -> bool:
        """Whether JPEG may be decoded at reduced size."""
        return self.getOrDefault(self.fastDecode)

    def setFastDecode(self: P, value: bool) -> P:
        """Sets whether JPEG much larger than needed may be decoded at 1/2, 1/4 or 1/8 of its size."""
        return self._set(fastDecode=value)


class HasDecodePredictions(Params):
    """How scores become classes."""

    decodePredictions: Param[bool] = Param(
        Params._dummy(),
        "decodePredictions",
        "whether the output is the topK best classes with their names, rather than the scores of all classes",
        TypeConverters.toBoolean,
    )
    topK: Param[int] = Param(
        Params._dummy(),
        "topK",
        "how many classes are named, best first (at least 1); read when decodePredictions is true",
        _at_least("topK", 1),
    )
    labels: Param[list[str]] = Param(
        Params._dummy(),
        "labels",
        "names of the classes, one per score of the model; empty: the model's own",
        TypeConverters.toListString,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(decodePredictions=False, topK=5, labels=[])

    def getDecodePredictions(self) -> bool:
        """Whether the output is the best classes by name."""
        return self.getOrDefault(self.decodePredictions)

    def setDecodePredictions(self: P, value: bool) -> P:
        """Sets whether the output is the best classes by name, rather than the scores of all classes."""
        return self._set(decodePredictions=value)

    def getTopK(self) -> int:
        """How many classes are named, best first."""
        return self.getOrDefault(self.topK)

    def setTopK(self: P, value: int) -> P:
        """Sets how many classes are named, best first. Read when decodePredictions is true."""
        return self._set(topK=value)

    def getLabels(self) -> list[str]:
        """Names of the classes; empty: the model's own."""
        return self.getOrDefault(self.labels)

    def setLabels(self: P, value: list[str]) -> P:
        """Sets the names of the classes, one per score. Empty: the model's own."""
        return self._set(labels=value)
