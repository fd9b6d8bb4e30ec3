"""Which model, and what of it."""

from __future__ import annotations

from typing import Any, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.params.checks import choice, digest, file_or_model, not_empty

P = TypeVar("P", bound=Params)


class HasModelName(Params):
    """The network: a built-in model, or a bundle."""

    modelName: Param[str] = Param(
        Params._dummy(),
        "modelName",
        "name of a built-in model as Keras spells it, or path or URI of a bundle (*.sparkdl)",
        not_empty("modelName"),
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
        file_or_model("weights"),
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


class HasModelFile(Params):
    """The model: a Keras file, a bundle, or a live model."""

    modelFile: Param[Any] = Param(
        Params._dummy(),
        "modelFile",
        "path or URI of a Keras model (.keras, .h5) or of a bundle (*.sparkdl)",
        file_or_model("modelFile"),
    )

    def getModelFile(self) -> Any:
        """A path or URI, or the `keras.Model` that was set."""
        return self.getOrDefault(self.modelFile)

    def setModelFile(self: P, value: Any) -> P:
        """Sets the path or URI of a Keras model (`.keras`, `.h5`) or a bundle, or a live `keras.Model`."""
        return self._set(modelFile=value)


class HasExpectedSha256(Params):
    """What a model's file must be."""

    expectedSha256: Param[str] = Param(
        Params._dummy(),
        "expectedSha256",
        "SHA-256, in hex, that the model's file must have; not checked when unset",
        digest,
    )

    def getExpectedSha256(self) -> str:
        """The SHA-256 that the model's file must have, 64 hex digits."""
        return self.getOrDefault(self.expectedSha256)

    def setExpectedSha256(self: P, value: str) -> P:
        """Sets the SHA-256 of the model's file, 64 hex digits; another file is refused before it is read."""
        return self._set(expectedSha256=value)


class HasFeatureLayer(Params):
    """Which features."""

    featureLayer: Param[str] = Param(
        Params._dummy(),
        "featureLayer",
        "layer whose output are the features, by its name in Keras; the last feature map when unset",
        not_empty("featureLayer"),
    )

    def getFeatureLayer(self) -> str:
        """The layer whose output are the features."""
        return self.getOrDefault(self.featureLayer)

    def setFeatureLayer(self: P, value: str) -> P:
        """Sets the layer whose output are the features, by its name in Keras.

        What has no height and width is not pooled over them: a sequence is pooled over its steps, a vector is
        taken as it is.
        """
        return self._set(featureLayer=value)


class HasPooling(Params):
    """What becomes of the last feature map."""

    pooling: Param[str] = Param(
        Params._dummy(),
        "pooling",
        'pooling of the last feature map over its height and width: "avg", "max", '
        'or "none" for the whole map, flattened',
        choice("pooling", ("avg", "max", "none")),
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


class HasInputNames(Params):
    """Which input of the model each column feeds."""

    inputNames: Param[list[str]] = Param(
        Params._dummy(),
        "inputNames",
        "names of the model's inputs that inputCols feed, in this order; the model's own order when unset",
        TypeConverters.toListString,
    )

    def getInputNames(self) -> list[str]:
        """Names of the model's inputs, in the order of the input columns."""
        return self.getOrDefault(self.inputNames)

    def setInputNames(self: P, value: list[str]) -> P:
        """Sets the names of the model's inputs, in the order of the input columns; all of them."""
        return self._set(inputNames=value)


class HasOutputNames(Params):
    """Which output of the model each column takes."""

    outputNames: Param[list[str]] = Param(
        Params._dummy(),
        "outputNames",
        "names of the model's outputs that outputCols take, in this order; all of them, in the model's "
        "order, when unset",
        TypeConverters.toListString,
    )

    def getOutputNames(self) -> list[str]:
        """Names of the model's outputs, in the order of the output columns."""
        return self.getOrDefault(self.outputNames)

    def setOutputNames(self: P, value: list[str]) -> P:
        """Sets the names of the model's outputs, in the order of the output columns; others are left out."""
        return self._set(outputNames=value)
