"""Keras models trained on rows of numbers."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.param.shared import HasInputCol, HasInputCols
from pyspark.sql import DataFrame, SparkSession

from sparkdl import params
from sparkdl.estimators import shards
from sparkdl.estimators.keras_fit import Data, KerasFit
from sparkdl.estimators.labels import Labels
from sparkdl.estimators.models import KerasModel
from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers import columns
from sparkdl.transformers.model_stage import Plan


class KerasEstimator(KerasFit, HasInputCol, HasInputCols, params.HasTensorOutputMode):
    """Trains a Keras model of one output on columns of numbers, arrays or MLlib vectors.

    `fit` gives a `KerasModel`; with a list of param maps, and under `CrossValidator` and
    `TrainValidationSplit`, each trial runs in a Spark task and a process of its own.

    Labels (`labelCol`) are indexes of classes, whole numbers or strings (which are indexed), one number an
    output as array or vector (one-hot), or values.
    """

    _model_class = KerasModel

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        inputCols: list[str] | None = None,
        outputCol: str | None = None,
        labelCol: str = "label",
        modelFile: Any = None,
        kerasOptimizer: str = "adam",
        kerasLoss: str | None = None,
        kerasFitParams: dict[str, Any] | None = None,
        kerasMetrics: list[str] | None = None,
        trainableLayers: list[str] | None = None,
        learningRate: float | None = None,
        epochs: int = 1,
        batchSize: int = 32,
        validationFraction: float = 0.0,
        earlyStopping: Any = None,
        classWeights: Any = None,
        kerasCallbacks: list[str] | None = None,
        seed: int | None = None,
        customObjects: dict[str, str] | None = None,
        weightCol: str | None = None,
        predictionCol: str = "prediction",
        labelIndexCol: str = "labelIndex",
        outputMode: str = "vector",
        handleInvalid: str = "skip",
        parallelism: int | None = None,
        numWorkers: int = 1,
        failMode: str = "fail",
        workDir: str | None = None,
        expectedSha256: str | None = None,
    ) -> None:
        super().__init__()
        self._setDefault(outputMode="vector")
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        inputCol: str | None = None,
        inputCols: list[str] | None = None,
        outputCol: str | None = None,
        labelCol: str = "label",
        modelFile: Any = None,
        kerasOptimizer: str = "adam",
        kerasLoss: str | None = None,
        kerasFitParams: dict[str, Any] | None = None,
        kerasMetrics: list[str] | None = None,
        trainableLayers: list[str] | None = None,
        learningRate: float | None = None,
        epochs: int = 1,
        batchSize: int = 32,
        validationFraction: float = 0.0,
        earlyStopping: Any = None,
        classWeights: Any = None,
        kerasCallbacks: list[str] | None = None,
        seed: int | None = None,
        customObjects: dict[str, str] | None = None,
        weightCol: str | None = None,
        predictionCol: str = "prediction",
        labelIndexCol: str = "labelIndex",
        outputMode: str = "vector",
        handleInvalid: str = "skip",
        parallelism: int | None = None,
        numWorkers: int = 1,
        failMode: str = "fail",
        workDir: str | None = None,
        expectedSha256: str | None = None,
    ) -> KerasEstimator:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def setInputCol(self, value: str) -> KerasEstimator:
        """Sets the column that feeds the model's only input."""
        return self._set(inputCol=value)

    def setInputCols(self, value: list[str]) -> KerasEstimator:
        """Sets the columns that feed the model's inputs, in the model's order."""
        return self._set(inputCols=value)

    def _columns(self) -> list[str]:
        return list(self.getInputCols()) if self.isSet(self.inputCols) else [self.getInputCol()]

    def _data(self, plan: Plan, facts: dict[str, Any], spark: SparkSession) -> Data:
        inputs = tuple({"dtype": one["dtype"], "shape": one["shape"]} for one in facts["inputs"])
        for one in facts["inputs"]:
            if None in one["shape"]:
                raise SparkDLValueError(
                    f"The input {one['name']} of the model {facts['name']} has the shape {one['shape']}: "
                    "KerasEstimator trains models whose rows have a fixed shape. Save the model with one."
                )
        return Data(inputs=inputs, key=(inputs, self._columns()), source=self._columns())

    def _select(
        self, dataset: DataFrame, data: Data, found: Labels, folder: str, slots: int
    ) -> shards.Selected:
        inputs = [columns.named(name).alias(f"_{n + 2}") for n, name in enumerate(data.source)]
        return shards.select_numbers(
            dataset.select(*self._label_and_weight(dataset, found), *inputs),
            tuple(tuple(one["shape"]) for one in data.inputs),
            tuple(one["dtype"] for one in data.inputs),
            folder,
            self._label_type(found),
        )


KerasEstimator.__module__ = "sparkdl"
