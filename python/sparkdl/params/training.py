"""How Keras trains: what its `fit` is told."""

from __future__ import annotations

from typing import Any, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.exceptions import SparkDLValueError
from sparkdl.params.checks import at_least, choice

P = TypeVar("P", bound=Params)

FIT_PARAMS = (
    "batch_size",
    "class_weight",
    "epochs",
    "shuffle",
    "steps_per_epoch",
    "validation_batch_size",
    "validation_freq",
    "validation_split",
    "verbose",
)
"""What kerasFitParams may hold."""
ALONE = ("steps_per_epoch", "validation_freq")
"""Those of them that several workers do not take."""
_INSTEAD = {
    "callbacks": "set kerasCallbacks",
    "sample_weight": "set weightCol",
    "validation_data": "set validationFraction",
    "x": "the rows of the DataFrame are trained on",
    "y": "labels are those of labelCol",
}


def _fit_params(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SparkDLValueError(f"kerasFitParams must be a dict of params of Keras' fit but was {value!r}.")
    for name in value:
        if name not in FIT_PARAMS:
            instead = _INSTEAD.get(name, f"it takes {', '.join(FIT_PARAMS)}")
            raise SparkDLValueError(f"kerasFitParams does not take {name}: {instead}.")
    if isinstance(value.get("class_weight"), dict):
        return {**value, "class_weight": class_weights(value["class_weight"])}
    return dict(value)


def class_weights(value: Any) -> Any:
    """A dict of class to weight, whole numbers as such whether JSON made texts of them or not."""
    if value == "balanced":
        return value
    if not isinstance(value, dict) or not value:
        raise SparkDLValueError(
            f'classWeights must be a dict of class to weight, or "balanced", but was {value!r}.'
        )
    weights = dict[Any, float]()
    for key, given in value.items():
        weight = TypeConverters.toFloat(given)
        if not weight >= 0:
            raise SparkDLValueError(f"classWeights must be at least 0, but that of {key} is {weight}.")
        weights[str(key)] = weight
    return weights


def _early_stopping(value: Any) -> Any:
    options = {"patience": value} if not isinstance(value, dict) else dict(value)
    for name in options:
        if name not in ("patience", "monitor", "min_delta", "mode", "baseline", "start_from_epoch"):
            raise SparkDLValueError(
                f"earlyStopping does not take {name}: it takes patience, monitor, min_delta, mode, baseline "
                "and start_from_epoch, as Keras' EarlyStopping."
            )
    if "patience" not in options:
        raise SparkDLValueError("earlyStopping needs patience: epochs without improvement (at least 0).")
    options["patience"] = at_least("The patience of earlyStopping", 0)(options["patience"])
    return options


def _fraction(value: Any) -> float:
    number = TypeConverters.toFloat(value)
    if not 0 <= number < 1:
        raise SparkDLValueError(f"validationFraction must be at least 0 and below 1 but was {number}.")
    return number


class HasTraining(Params):
    """What Keras' `fit` is told. A param here that is set wins over its kin in kerasFitParams."""

    kerasFitParams: Param[dict[str, Any]] = Param(
        Params._dummy(),
        "kerasFitParams",
        f"params of Keras' fit, by their names: {', '.join(FIT_PARAMS)}. epochs, batchSize, classWeights "
        "and validationFraction win over them where they are set. An epoch of steps_per_epoch batches goes "
        "on where the last ended, through all rows and again",
        _fit_params,
    )
    epochs: Param[int] = Param(
        Params._dummy(), "epochs", "how often the rows are gone through (at least 1)", at_least("epochs", 1)
    )
    batchSize: Param[int] = Param(
        Params._dummy(), "batchSize", "rows of a training step (at least 1)", at_least("batchSize", 1)
    )
    validationFraction: Param[float] = Param(
        Params._dummy(),
        "validationFraction",
        "share of the rows that validates and is not trained on (at least 0, below 1), chosen by what is in "
        "them and the seed: equal inputs fall on the same side",
        _fraction,
    )
    earlyStopping: Param[Any] = Param(
        Params._dummy(),
        "earlyStopping",
        "epochs without improvement after which training stops, or the arguments of Keras' EarlyStopping as "
        "a dict; the weights of the best epoch are restored",
        _early_stopping,
    )
    classWeights: Param[Any] = Param(
        Params._dummy(),
        "classWeights",
        'class (its index, or its label) to the weight of its rows in the loss; or "balanced": each class '
        "weighs the same in all",
        class_weights,
    )
    kerasCallbacks: Param[list[str]] = Param(
        Params._dummy(),
        "kerasCallbacks",
        "Keras callbacks, by name (of Keras' own) or importable name (package.module.Name); each is called "
        "without arguments where training starts and gives the callback",
        TypeConverters.toListString,
    )
    seed: Param[int] = Param(
        Params._dummy(),
        "seed",
        "seed of everything random in training (0 to 2^31 - 1); with it training is repeatable",
        at_least("seed", 0),
    )
    handleInvalid: Param[str] = Param(
        Params._dummy(),
        "handleInvalid",
        'what becomes of a row without a usable input, label or weight: "skip" (left out, with a warning '
        'that counts them) or "error" (naming the first)',
        choice("handleInvalid", ("skip", "error")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            kerasFitParams={"verbose": 1},
            epochs=1,
            batchSize=32,
            validationFraction=0.0,
            kerasCallbacks=[],
            handleInvalid="skip",
        )

    def getKerasFitParams(self) -> dict[str, Any]:
        """Params of Keras' fit."""
        return self.getOrDefault(self.kerasFitParams)

    def setKerasFitParams(self: P, value: dict[str, Any]) -> P:
        """Sets params of Keras' fit, as `{"epochs": 5, "verbose": 0}`."""
        return self._set(kerasFitParams=value)

    def getEpochs(self) -> int:
        """How often the rows are gone through."""
        return self.getOrDefault(self.epochs)

    def setEpochs(self: P, value: int) -> P:
        """Sets how often the rows are gone through, from 1 on."""
        return self._set(epochs=value)

    def getBatchSize(self) -> int:
        """The rows of a training step."""
        return self.getOrDefault(self.batchSize)

    def setBatchSize(self: P, value: int) -> P:
        """Sets the rows of a training step, from 1 on."""
        return self._set(batchSize=value)

    def getValidationFraction(self) -> float:
        """The share of the rows that validates."""
        return self.getOrDefault(self.validationFraction)

    def setValidationFraction(self: P, value: float) -> P:
        """Sets the share of the rows that validates: at least 0, below 1."""
        return self._set(validationFraction=value)

    def getEarlyStopping(self) -> Any:
        """The arguments of Keras' EarlyStopping."""
        return self.getOrDefault(self.earlyStopping)

    def setEarlyStopping(self: P, value: Any) -> P:
        """Sets the epochs without improvement after which training stops, or a dict: `{"patience": 3}`."""
        return self._set(earlyStopping=value)

    def getClassWeights(self) -> Any:
        """Class to weight, or `"balanced"`."""
        return self.getOrDefault(self.classWeights)

    def setClassWeights(self: P, value: Any) -> P:
        """Sets class to weight, as `{0: 1.0, 1: 5.0}` or `{"rose": 2.0}`, or `"balanced"`."""
        return self._set(classWeights=value)

    def getKerasCallbacks(self) -> list[str]:
        """The importable names of the callbacks."""
        return self.getOrDefault(self.kerasCallbacks)

    def setKerasCallbacks(self: P, value: list[str]) -> P:
        """Sets callbacks by importable name, as `["mypackage.callbacks.Logger"]`."""
        return self._set(kerasCallbacks=value)

    def getSeed(self) -> int:
        """The seed of everything random in training."""
        return self.getOrDefault(self.seed)

    def setSeed(self: P, value: int) -> P:
        """Sets the seed of everything random in training."""
        return self._set(seed=value)

    def getHandleInvalid(self) -> str:
        """`"skip"` or `"error"`."""
        return self.getOrDefault(self.handleInvalid)

    def setHandleInvalid(self: P, value: str) -> P:
        """Sets what becomes of a row without a usable input, label or weight; the fitted model does so too.

        `"skip"`: the row is left out; `"error"`: training stops, naming it.
        """
        return self._set(handleInvalid=value)
