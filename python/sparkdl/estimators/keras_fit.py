"""What the estimators share: params, checks before any job, and how a copy of one becomes a trial."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pyspark.ml import Estimator
from pyspark.ml.param import Param
from pyspark.ml.param.shared import HasLabelCol, HasOutputCol, HasPredictionCol, HasWeightCol
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType, StructType

from sparkdl import params
from sparkdl.estimators import files, labels
from sparkdl.estimators.models import FittedModel
from sparkdl.estimators.shards import Selected
from sparkdl.exceptions import SparkDLValueError
from sparkdl.params.compiling import HasCompile
from sparkdl.params.search import HasLabelIndexCol, HasTrials
from sparkdl.params.training import ALONE, HasTraining
from sparkdl.transformers import columns
from sparkdl.transformers.model_stage import Bundle, Plan

E = TypeVar("E", bound="KerasFit")


@dataclass(frozen=True)
class Data:
    """Which rows a trial wants, and how they lie in its files."""

    inputs: tuple[dict[str, Any], ...]
    """As `trial_task.Trial.inputs`."""
    key: Any
    """What rows and their inputs depend on, besides the DataFrame: equal for trials that share them."""
    source: Any
    """What the estimator makes rows of."""


class KerasFit(
    Estimator[Any],
    HasOutputCol,
    HasLabelCol,
    HasWeightCol,
    HasPredictionCol,
    HasLabelIndexCol,
    HasCompile,
    HasTraining,
    HasTrials,
    params.HasModelFile,
    params.HasExpectedSha256,
    MLReadable[Any],
    MLWritable,
):
    """An estimator that trains a Keras model on rows, each trial in a Spark task and a process of its own."""

    _input_kwargs: dict[str, Any]
    _pin: files.KerasFile | None = None
    """The Keras file that a loaded estimator was saved with, while modelFile stays."""
    _model_class: ClassVar[type[FittedModel]]
    _of_the_estimator: ClassVar[tuple[str, ...]] = ("batchSize", "modelFile", "expectedSha256")
    """Params that the fitted model has too, with another meaning or value."""

    def setOutputCol(self: E, value: str) -> E:
        """Sets the fitted model's column of scores."""
        return self._set(outputCol=value)

    def setLabelCol(self: E, value: str) -> E:
        """Sets the column of labels: numbers, strings, or one number an output as array or vector."""
        return self._set(labelCol=value)

    def setWeightCol(self: E, value: str) -> E:
        """Sets the column of the rows' weights in the loss, from 0 on."""
        return self._set(weightCol=value)

    def setPredictionCol(self: E, value: str) -> E:
        """Sets the fitted model's column of predictions."""
        return self._set(predictionCol=value)

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[dict[Param[Any], Any]]
    ) -> Iterator[tuple[int, Any]]:
        """An iterator of `(index, model)`, for threads and in the order in which trials end.

        The rows are prepared before it comes back; the trials start with the first that is asked for.
        """
        from sparkdl.estimators.search import search

        return search(self, dataset, [self.copy(dict(values)) for values in paramMaps])

    def _fit(self, dataset: DataFrame) -> Any:
        return next(iter(self.fitMultiple(dataset, [{}])))[1]

    def write(self) -> Any:
        """A writer of this estimator: `write().overwrite().save(path)`."""
        return files.EstimatorWriter(self)

    @classmethod
    def read(cls) -> Any:
        """A reader of saved estimators: `read().load(path)`."""
        return files.EstimatorReader(cls)

    def copy(self: E, extra: Any = None) -> E:
        """A copy with `extra` values."""
        that = super().copy(extra)
        that._pin = self._pin
        return that

    def _set(self: E, **values: Any) -> E:
        if "modelFile" in values:
            self._pin = None
        return super()._set(**values)

    @abstractmethod
    def _data(self, plan: Plan, facts: dict[str, Any], spark: SparkSession) -> Data:
        """The rows that a trial wants of a DataFrame."""

    @abstractmethod
    def _select(
        self, dataset: DataFrame, data: Data, found: labels.Labels, folder: str, slots: int
    ) -> Selected:
        """Makes them of it."""

    def _plain_values(self) -> dict[str, Any]:
        """The values that are set, as they are saved."""
        return {param.name: value for param, value in self._paramMap.items()}

    def _check(self, schema: StructType) -> None:
        """Refuses, without a job, what can be told from the params and the schema."""
        if not self.isDefined(self.modelFile):
            raise SparkDLValueError(f"{type(self).__name__} needs the param modelFile: set it first.")
        columns.found(schema, self.getLabelCol())
        if self.isSet(self.weightCol):
            kind = columns.found(schema, self.getWeightCol())
            if not isinstance(kind, NumericType):
                raise SparkDLValueError(
                    f"Column {self.getWeightCol()} must hold numbers (weights) but was actually "
                    f"{kind.simpleString()}."
                )
        columns.check_new(schema, [self.getPredictionCol()])
        if self.getNumWorkers() > 1:
            self._check_data_parallel()

    def _check_data_parallel(self) -> None:
        given = [name for name in ALONE if name in self.getKerasFitParams()]
        if given or self.getKerasCallbacks():
            what = f"kerasFitParams with {', '.join(given)}" if given else "kerasCallbacks"
            raise SparkDLValueError(
                f"numWorkers is {self.getNumWorkers()}, and with several workers {what} is not supported: "
                "take it out, or set numWorkers to 1."
            )

    def _file(self, spark: SparkSession) -> files.KerasFile:
        """The Keras file on this machine."""
        return self._pin or files.found(
            self.getModelFile(),
            spark,
            self.getExpectedSha256().lower() if self.isSet(self.expectedSha256) else "",
        )

    def _spec(self, file: files.KerasFile) -> dict[str, Any]:
        """How the model is compiled and trained, as the trial's process takes it."""
        fit = self.getKerasFitParams()

        def either(own: Param[Any], theirs: str) -> Any:
            value = self.getOrDefault(own) if self.isDefined(own) else None
            return value if self.isSet(own) else fit.get(theirs, value)

        get = self.getOrDefault
        return {
            "modelFile": file.name,
            "sha256": file.digest,
            "customObjects": get(self.customObjects),
            "optimizer": get(self.kerasOptimizer)
            if self.isSet(self.kerasOptimizer) or self.isSet(self.kerasLoss)
            else None,
            "loss": get(self.kerasLoss) if self.isSet(self.kerasLoss) else None,
            "metrics": get(self.kerasMetrics),
            "learningRate": get(self.learningRate) if self.isSet(self.learningRate) else None,
            "trainableLayers": get(self.trainableLayers) if self.isSet(self.trainableLayers) else None,
            "callbacks": get(self.kerasCallbacks),
            "epochs": either(self.epochs, "epochs"),
            "batchSize": either(self.batchSize, "batch_size"),
            "validationFraction": either(self.validationFraction, "validation_split"),
            "validationFreq": fit.get("validation_freq", 1),
            "validationBatchSize": fit.get("validation_batch_size"),
            "stepsPerEpoch": fit.get("steps_per_epoch"),
            "shuffle": bool(fit.get("shuffle", True)),
            "earlyStopping": get(self.earlyStopping) if self.isSet(self.earlyStopping) else None,
            "classWeights": either(self.classWeights, "class_weight"),
            "seed": get(self.seed) if self.isSet(self.seed) else None,
            "numWorkers": self.getNumWorkers(),
            "inputSize": get(self.getParam("inputSize"))
            if self.hasParam("inputSize") and self.isSet("inputSize")
            else None,
        }

    def _plan(self, schema: StructType, facts: dict[str, Any]) -> Plan:
        """How the fitted model takes rows: what it refuses is refused now."""
        model = self._fitted()._set(predictionKind="class")
        model._check(schema)
        manifest = {"name": facts["name"], "inputs": facts["inputs"], "outputs": facts["outputs"]}
        return model._plan(schema, Bundle(Path(), "", manifest))

    def _fitted(self) -> FittedModel:
        """The fitted model's stage, with the params that are set here and that it has."""
        model: FittedModel = self._model_class()
        model._resetUid(self.uid.replace(type(self).__name__, self._model_class.__name__))
        for param in self.params:
            if param.name in self._of_the_estimator or not model.hasParam(param.name):
                continue
            # The default of handleInvalid is another one there: what was left out in training is in scoring.
            if self.isSet(param) or param.name == "handleInvalid":
                model._set(**{param.name: self.getOrDefault(param)})
        model._set(modelFile="model.keras")  # Until there is one.
        return model

    def _verbose(self) -> bool:
        return self.getKerasFitParams().get("verbose", 1) not in (0, "0")

    def _label_and_weight(self, dataset: DataFrame, found: labels.Labels) -> list[Column]:
        name = self.getLabelCol()
        label = found.column(name, dataset.schema[name].dataType)
        weight = columns.named(self.getWeightCol()) if self.isSet(self.weightCol) else F.lit(1.0)
        return [label.alias("_0"), weight.cast("double").alias("_1")]

    def _label_type(self, found: labels.Labels) -> str:
        return "array<float>" if found.kind == "vector" else "double"
