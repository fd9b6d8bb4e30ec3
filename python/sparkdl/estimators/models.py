"""What estimators fit: the stages that run Keras models, with predictions beside their scores."""

from __future__ import annotations

import json
from typing import Any

from pyspark.ml import Model
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.param.shared import HasLabelCol, HasOutputCol, HasPredictionCol
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, NumericType, StringType, StructType

from sparkdl.estimators.history import History
from sparkdl.estimators.labels import as_array, index_of
from sparkdl.params.search import HasLabelIndexCol, HasPredictions
from sparkdl.transformers import columns
from sparkdl.transformers.file_stage import FileStage
from sparkdl.transformers.keras_image_file_transformer import KerasImageFileTransformer
from sparkdl.transformers.keras_transformer import KerasTransformer

_NEVER_WINS = 1e150
"""Where numbers are predicted: its square is a double still."""


class FittedModel(
    Model,
    FileStage,
    HasOutputCol,
    HasLabelCol,
    HasPredictionCol,
    HasLabelIndexCol,
    HasPredictions,
):
    """Adds predictionCol to the scores: the index of the best class, or the number, as double.

    Where a DataFrame has labelCol and it holds no indexes itself, labelIndexCol has them, so that MLlib's
    evaluators take it. Both are plain Spark expressions; streams are fine.
    """

    def setPredictionCol(self, value: str) -> Any:
        """Sets the column of predictions (double)."""
        return self._set(predictionCol=value)

    def setLabelCol(self, value: str) -> Any:
        """Sets the column of labels, which need not be there."""
        return self._set(labelCol=value)

    @property
    def history(self) -> History:
        """A row for each epoch: `epoch` from 1 on, `loss`, metrics, those of validation as `val_…`."""
        return History(json.loads(self.getOrDefault(self.trainingHistory)))

    def plotHistory(self, path: str | None = None) -> Any:
        """A matplotlib figure of the history, also written to `path` as PNG where it is given."""
        return self.history.plot(path)

    @property
    def failureReason(self) -> str:
        """Why the training failed, with the traceback of its process; empty where it did not."""
        return str(self.getOrDefault(self.failure))

    def _failed(self) -> bool:
        return bool(self.getOrDefault(self.predictionKind) == "failed")

    def _needed(self) -> list[Any]:
        return [] if self._failed() else super()._needed()

    def _check_model(self) -> None:
        if not self._failed():
            super()._check_model()

    def _new_column_names(self, outputs: list[str]) -> list[str]:
        return super()._new_column_names([*outputs, *self._added()])

    def _added(self) -> list[str]:
        kind = self.getOrDefault(self.predictionKind)
        return [self.getPredictionCol()] if kind != "none" else []

    def _transform(self, dataset: DataFrame) -> DataFrame:
        if self._failed():
            self._check(dataset.schema)
            scored = self._without_scores(dataset)
        else:
            scored = super()._transform(dataset)
        return self._with_label_index(self._with_prediction(scored), dataset.schema)

    def _without_scores(self, dataset: DataFrame) -> DataFrame:
        zeros = F.array(*[F.lit(0.0)] * max(1, int(self.getOrDefault(self.classes))))
        is_vector = self.getOrDefault("outputMode") == "vector"
        column = array_to_vector(zeros) if is_vector else zeros.cast("array<float>")
        return dataset.withColumn(self.getOutputCol(), column)

    def _with_prediction(self, scored: DataFrame) -> DataFrame:
        kind = self.getOrDefault(self.predictionKind)
        if kind == "none":
            return scored
        names, classes = self.getLabels(), int(self.getOrDefault(self.classes))
        if kind == "failed":
            value: Column = F.lit(-1.0 if classes > 1 else _NEVER_WINS)
        else:
            value = _prediction(self._scores(scored), kind, self.getOrDefault(self.threshold))
        if kind in ("class", "binary"):
            nominal = {"type": "nominal", "name": self.getPredictionCol()}
            count = {"num_vals": 2 if kind == "binary" else classes}
            attributes = {"ml_attr": {**nominal, **({"vals": names} if names else count)}}
            return scored.withColumns({self.getPredictionCol(): value}).withMetadata(
                self.getPredictionCol(), attributes
            )
        return scored.withColumn(self.getPredictionCol(), value)

    def _scores(self, scored: DataFrame) -> Column:
        """The scores of a row as an array, flat."""
        column, found = columns.named(self.getOutputCol()), scored.schema[self.getOutputCol()].dataType
        if isinstance(found, NumericType):
            return F.array(column)
        if isinstance(found, ArrayType):
            return column
        return F.when(column.isNotNull(), vector_to_array(column))  # Spark's function takes no null.

    def _with_label_index(self, scored: DataFrame, schema: StructType) -> DataFrame:
        kind, name = self.getOrDefault(self.labelKind), self.getLabelCol()
        is_class = self.getOrDefault(self.predictionKind) in ("class", "binary", "failed")
        if not is_class or kind == "number" or name not in schema.names:
            return scored
        found, column = schema[name].dataType, columns.named(name)
        if kind == "vector":
            if isinstance(found, (StringType, NumericType)):
                return scored
            several = int(self.getOrDefault(self.classes)) > 1
            index = _prediction(as_array(column, found), "class" if several else "value", 0.0)
        else:
            unseen = F.when(column.isNotNull(), float(len(self.getLabels())))
            index = F.coalesce(index_of(column, self.getLabels()), unseen)
        return scored.withColumn(self.getLabelIndexCol(), index)


def _prediction(scores: Column, kind: str, threshold: float) -> Column:
    if kind == "class":
        best = F.array_position(scores, F.array_max(scores)) - 1
        return best.cast("double")
    if kind == "binary":
        return F.when(scores[0].isNotNull(), (scores[0] > threshold).cast("double"))
    return scores[0].cast("double")


class KerasImageFileModel(FittedModel, KerasImageFileTransformer):
    """A `KerasImageFileTransformer` with a Keras model that `KerasImageFileEstimator` trained."""


class KerasModel(FittedModel, KerasTransformer):
    """A `KerasTransformer` with a Keras model that `KerasEstimator` trained."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self._setDefault(outputMode="vector")


KerasImageFileModel.__module__ = "sparkdl"
KerasModel.__module__ = "sparkdl"
