"""What the stages for pictures and pre-trained networks share."""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pyspark.ml.param import Param
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from sparkdl import _batches, _bundles, params
from sparkdl.exceptions import SparkDLValueError
from sparkdl.models import supported_models
from sparkdl.transformers import columns, picture_columns
from sparkdl.transformers.model_stage import Bundle, ModelStage, Plan

S = TypeVar("S", bound="PictureStage")

PUBLISHED = "imagenet"
"""The value of `weights` that stands for those Keras publishes."""


class PictureStage(
    ModelStage,
    HasInputCol,
    HasOutputCol,
    params.HasModelName,
    params.HasWeights,
    params.HasScaleHint,
    params.HasResizeMode,
    params.HasOutputMode,
    params.HasPictureOptions,
):
    """A stage that runs pictures through a pre-trained network.

    The input column holds encoded files (binary: the fast path) or Spark's image struct. All other columns
    pass through untouched. Nothing runs until the result is used, and streaming DataFrames are fine.
    """

    _of_the_model: ClassVar[tuple[str, ...]] = ("modelName", "weights", "expectedSha256")
    _live = "weights"

    def setInputCol(self: S, value: str) -> S:
        """Sets the column of pictures: encoded files (binary) or Spark's image struct."""
        return self._set(inputCol=value)

    def setOutputCol(self: S, value: str) -> S:
        """Sets the column for the results."""
        return self._set(outputCol=value)

    @classmethod
    def supportedModels(cls) -> list[str]:
        """The names that `modelName` takes, besides paths of bundles."""
        return supported_models()

    def _needed(self) -> list[Param[Any]]:
        return [self.inputCol, self.modelName]

    def _check_columns(self, schema: StructType) -> None:
        picture_columns.check_input(schema, self.getInputCol())
        columns.check_new(schema, self._new_column_names([self.getOutputCol()]))

    def _check_model(self) -> None:
        name, weights = self.getModelName(), self.getWeights()
        if self._pinned() is not None:
            return
        if name in supported_models():
            if isinstance(weights, str) and weights == PUBLISHED and self.isSet(self.expectedSha256):
                raise SparkDLValueError(
                    f"The published weights of {name} are checked anyway: leave expectedSha256 unset, or "
                    "name a file by weights."
                )
            return
        if not name.endswith(".sparkdl"):
            raise SparkDLValueError(
                f"Unknown model {name}. Known models: {', '.join(supported_models())}; "
                "or give the path of a bundle (*.sparkdl)."
            )
        if weights != PUBLISHED:
            raise SparkDLValueError(
                f"The bundle {name} has weights of its own but the param weights is {weights}: "
                "leave weights unset, or give the name of a built-in model as modelName."
            )

    def _plan(self, schema: StructType, bundle: Bundle) -> Plan:
        if not bundle.is_for_pictures():
            raise SparkDLValueError(
                f"{type(self).__name__} takes networks for pictures, but {self.getModelName()} is a model on "
                "tensors: use it as modelFile of KerasTransformer or KerasImageFileTransformer."
            )
        sizes = {name: prod(output["shape"]) for name, output in bundle.manifest["outputs"].items()}
        self._check_task(bundle, sizes)
        kind, size = self._output_kind(), sizes[self._output_name()]
        name = self.getInputCol()
        column = schema.names.index(name)
        return Plan(
            source=_batches.Columns((column,)),
            options=self._task() | picture_options(self),
            fields=[picture_columns.output_field(self.getOutputCol(), kind, size)],
            kinds=["same" if kind == "topK" else kind],
            numbers=size,
            named_by=(name,) if picture_columns.is_image(schema[column].dataType) else (),
        )

    def _check_task(self, bundle: Bundle, sizes: dict[str, int]) -> None:
        """Refuses a task that this model cannot do; `sizes` are the numbers of each output."""
        if self._output_name() not in sizes:
            raise SparkDLValueError(
                f"The model {bundle.manifest['name']} has no output {self._output_name()}; "
                f"it has {', '.join(sorted(sizes))}."
            )

    @abstractmethod
    def _task(self) -> dict[str, str]:
        """What the native model computes, as options: `task` and what belongs to it."""

    @abstractmethod
    def _output_name(self) -> str:
        """The output of the bundle that the task reads."""

    def _output_kind(self) -> str:
        return self.getOutputMode()

    def _resolve(self, spark: SparkSession) -> Path:
        return _bundles.resolve(self.getModelName(), self.getWeights(), spark, asked=self._asked())

    def _make(self, spark: SparkSession) -> None:
        if self.getModelName() in supported_models():
            self._resolve(spark)

    def _saves_bundle(self) -> bool:
        if not self.isSet(self.modelName):
            return False
        return self.getModelName() not in supported_models() or self.getWeights() != PUBLISHED

    def _values_of(self, bundle: Path) -> dict[str, Any]:
        return {"modelName": f"file:{bundle}", "weights": PUBLISHED}


def picture_options(stage: Any) -> dict[str, str]:
    """How pictures are decoded and resized, as options of the core."""
    return {
        "scaleHint": stage.getScaleHint(),
        "resizeMode": stage.getResizeMode(),
        "maxPixels": str(stage.getMaxPixels()),
        "applyExifOrientation": str(stage.getApplyExifOrientation()).lower(),
        "fastDecode": str(stage.getFastDecode()).lower(),
    }
