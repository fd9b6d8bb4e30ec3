"""How a model is compiled: what Keras' `compile` is told, and which layers train."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.exceptions import SparkDLValueError
from sparkdl.params.checks import not_empty

P = TypeVar("P", bound=Params)


def _importable(param: str) -> Callable[[Any], dict[str, str]]:
    def convert(value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise SparkDLValueError(
                f'{param} must be a dict of name to importable name ("package.module.Class") but was '
                f"{value!r}."
            )
        for name, place in value.items():
            if not isinstance(place, str) or not re.fullmatch(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)+", place):
                raise SparkDLValueError(
                    f"{param} holds importable names alone (package.module.Class), but {name} is {place!r}."
                )
        return dict(value)

    return convert


def positive(param: str) -> Callable[[Any], float]:
    """Numbers above 0."""

    def convert(value: Any) -> float:
        number = TypeConverters.toFloat(value)
        if not 0 < number < float("inf"):
            raise SparkDLValueError(f"{param} must be above 0 but was {number}.")
        return number

    return convert


class HasCompile(Params):
    """What Keras' `compile` is told, and which layers train."""

    kerasOptimizer: Param[str] = Param(
        Params._dummy(), "kerasOptimizer", "Keras optimizer, by its name", not_empty("kerasOptimizer")
    )
    kerasLoss: Param[str] = Param(
        Params._dummy(),
        "kerasLoss",
        "Keras loss, by its name; when unset, that with which the model in modelFile was compiled",
        not_empty("kerasLoss"),
    )
    kerasMetrics: Param[list[str]] = Param(
        Params._dummy(),
        "kerasMetrics",
        "Keras metrics, by their names, that the history has beside the loss",
        TypeConverters.toListString,
    )
    learningRate: Param[float] = Param(
        Params._dummy(),
        "learningRate",
        "learning rate of the optimizer (above 0); the optimizer's own when unset",
        positive("learningRate"),
    )
    trainableLayers: Param[list[str]] = Param(
        Params._dummy(),
        "trainableLayers",
        "names of the layers that train, those of nested models too; a nested model's name stands for all "
        "its layers. All others keep their weights. When unset, the layers that are trainable as saved",
        TypeConverters.toListString,
    )
    customObjects: Param[dict[str, str]] = Param(
        Params._dummy(),
        "customObjects",
        "Keras name to the importable name (package.module.Class) of layers, losses, metrics and optimizers "
        "of your own; they are trusted and run",
        _importable("customObjects"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(kerasOptimizer="adam", kerasMetrics=[], customObjects={})

    def getKerasOptimizer(self) -> str:
        """The name of the Keras optimizer."""
        return self.getOrDefault(self.kerasOptimizer)

    def setKerasOptimizer(self: P, value: str) -> P:
        """Sets the Keras optimizer by its name, as `"adam"`."""
        return self._set(kerasOptimizer=value)

    def getKerasLoss(self) -> str:
        """The name of the Keras loss."""
        return self.getOrDefault(self.kerasLoss)

    def setKerasLoss(self: P, value: str) -> P:
        """Sets the Keras loss by its name, as `"categorical_crossentropy"`."""
        return self._set(kerasLoss=value)

    def getKerasMetrics(self) -> list[str]:
        """The names of the Keras metrics."""
        return self.getOrDefault(self.kerasMetrics)

    def setKerasMetrics(self: P, value: list[str]) -> P:
        """Sets the Keras metrics by their names, as `["accuracy"]`."""
        return self._set(kerasMetrics=value)

    def getLearningRate(self) -> float:
        """The learning rate of the optimizer."""
        return self.getOrDefault(self.learningRate)

    def setLearningRate(self: P, value: float) -> P:
        """Sets the learning rate of the optimizer, above 0."""
        return self._set(learningRate=value)

    def getTrainableLayers(self) -> list[str]:
        """The names of the layers that train."""
        return self.getOrDefault(self.trainableLayers)

    def setTrainableLayers(self: P, value: list[str]) -> P:
        """Sets the layers that train, by their names; all others keep their weights bit by bit."""
        return self._set(trainableLayers=value)

    def getCustomObjects(self) -> dict[str, str]:
        """Keras name to importable name."""
        return self.getOrDefault(self.customObjects)

    def setCustomObjects(self: P, value: dict[str, str]) -> P:
        """Sets where objects of your own are imported from: `{"Swirl": "mypackage.layers.Swirl"}`."""
        return self._set(customObjects=value)
