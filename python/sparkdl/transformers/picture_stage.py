"""What the stages share: the params, the checks, and pictures through a network in the Python workers."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from pyspark.ml import Transformer
from pyspark.ml.param import Param
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from sparkdl import _bundles, _engine, _shipping, params
from sparkdl.exceptions import SparkDLValueError
from sparkdl.models import supported_models
from sparkdl.persistence import Pin, StageReader, StageWriter
from sparkdl.transformers import picture_columns, twin

S = TypeVar("S", bound="PictureStage")

PUBLISHED = "imagenet"
"""The value of `weights` that stands for those Keras publishes."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on the driver's disk, and what its manifest says."""

    file: Path
    digest: str
    manifest: dict[str, Any]

    def sizes(self) -> dict[str, int]:
        """Numbers per picture, by output."""
        return {name: prod(output["shape"]) for name, output in self.manifest["outputs"].items()}


class PictureStage(
    Transformer,
    HasInputCol,
    HasOutputCol,
    params.HasModelName,
    params.HasWeights,
    params.HasScaleHint,
    params.HasResizeMode,
    params.HasOutputMode,
    params.HasBatchSize,
    params.HasHandleInvalid,
    params.HasErrorCol,
    params.HasPictureOptions,
    MLReadable[Any],
    MLWritable,
):
    """A stage that runs pictures through a network.

    The input column holds encoded files (binary: the fast path) or Spark's image struct. All other columns
    pass through untouched. Nothing runs until the result is used, and streaming DataFrames are fine.
    """

    _input_kwargs: dict[str, Any]
    _pin: Pin | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(twin.face(cls))

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

    def write(self) -> Any:
        """A writer of this stage: `write().overwrite().save(path)`."""
        return StageWriter(self)

    @classmethod
    def read(cls) -> StageReader:
        """A reader of saved stages: `read().load(path)`."""
        return StageReader(cls)

    @classmethod
    def _on_jvm(cls: type[S], path: str, spark: SparkSession) -> S | None:
        """The stage saved there, read by its Scala twin where there is one."""
        return cls._from_java(twin.load(cls, path)) if twin.answers(cls) else None

    @classmethod
    def _from_java(cls: type[S], java_stage: Any) -> S:
        stage = cls()
        stage._resetUid(java_stage.uid())
        twin.read_params(stage, java_stage)
        return stage

    def _to_java(self) -> Any:
        return twin.java_stage(self)

    def _set(self: S, **values: Any) -> S:
        if "modelName" in values or "weights" in values:
            self._forget()
        return super()._set(**values)

    def copy(self: S, extra: dict[Param[Any], Any] | None = None) -> S:
        """A copy with `extra` values, and the bundle this stage was loaded with where that fits them."""
        that = super().copy(extra)
        that._pin = self._pin
        return that

    def _forget(self) -> None:
        """Lets go of the bundle that this stage was loaded with."""
        self._pin = None

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check(dataset.schema)
        spark = dataset.sparkSession
        bundle = self._bundle(spark)
        self._check_task(bundle)
        return self._run(dataset, bundle)

    def _check(self, schema: StructType) -> None:
        """Refuses, without a job, what can be told from the params and the schema."""
        for param in (self.inputCol, self.modelName):
            if not self.isDefined(param):
                raise SparkDLValueError(f"{type(self).__name__} needs the param {param.name}: set it first.")
        picture_columns.check_input(schema, self.getInputCol())
        new = [self.getOutputCol(), *([self.getErrorCol()] if self.isSet(self.errorCol) else [])]
        picture_columns.check_new(schema, [StructField(name, StringType()) for name in new])
        self._check_model()

    def _check_model(self) -> None:
        name, weights = self.getModelName(), self.getWeights()
        if self._pinned() is not None or name in supported_models():
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

    def _check_task(self, bundle: Bundle) -> None:
        """Refuses a task that this model cannot do."""
        sizes = bundle.sizes()
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

    def _pinned(self) -> str | None:
        """The digest of the bundle it was loaded with, while `modelName` and `weights` keep their values."""
        pin = self._pin
        if pin is None or (pin.model_name, pin.weights) != (self.getModelName(), self.getWeights()):
            return None
        return pin.digest

    def _bundle(self, spark: SparkSession) -> Bundle:
        pinned = self._pinned()
        if pinned is None:
            file = _bundles.resolve(self.getModelName(), self.getWeights(), spark)
        else:
            file = _shipping.kept_file(spark, pinned)
            if not file.exists():
                raise SparkDLValueError(
                    f"The bundle {pinned} of a loaded stage is no longer in the cache folder: "
                    f"{file} is missing. Load the stage again."
                )
        manifest, digest = _engine.describe_bundle(file)
        return Bundle(file, digest, json.loads(manifest))

    def _to_save(self, spark: SparkSession) -> tuple[dict[str, Any], Bundle | None]:
        """The values to save, and the bundle: none for published weights, which the table pins by hash."""
        values = {param.name: value for param, value in self._paramMap.items()}
        if not self._saves_bundle():
            return values, None
        bundle = self._bundle(spark)
        if params.is_keras_model(self.getWeights()):
            values |= {"modelName": str(bundle.file), "weights": PUBLISHED}
        return values, bundle

    def _saves_bundle(self) -> bool:
        if not self.isSet(self.modelName):
            return False
        return self.getModelName() not in supported_models() or self.getWeights() != PUBLISHED

    def _run(self, dataset: DataFrame, bundle: Bundle) -> DataFrame:
        schema, spark = dataset.schema, dataset.sparkSession
        size = bundle.sizes()[self._output_name()]
        new = [picture_columns.output_field(self.getOutputCol(), self._output_kind(), size)]
        if self.isSet(self.errorCol):
            new.append(StructField(self.getErrorCol(), StringType()))
        rows, travelling = picture_columns.through_arrow(dataset)
        carried = None
        if dataset.isStreaming and _shipping.is_connect(spark):
            carried = _shipping.carried(bundle.file)
        task = _engine.Task(
            bundle=bundle.digest if carried else _shipping.ship(spark, bundle.file, bundle.digest),
            carried=carried,
            options=tuple((self._task() | self._picture_options()).items()),
            tensorflow_path=spark.conf.get("spark.sparkdl.tensorflow.path", None) or "",
            threads=_engine.configured_threads(spark),
            column=schema.names.index(self.getInputCol()),
            name_columns=picture_columns.name_columns(schema),
            batch_size=min(self.getBatchSize(), max(1, _engine.MAX_NUMBERS // size)),
            output=self._output_kind(),
            handle_invalid=self.getHandleInvalid(),
            with_reason=self.isSet(self.errorCol),
        )
        results = rows.mapInArrow(partial(_engine.run, task), StructType([*travelling.fields, *new]))
        return picture_columns.from_arrow(results, schema, travelling)

    def _picture_options(self) -> dict[str, str]:
        return {
            "scaleHint": self.getScaleHint(),
            "resizeMode": self.getResizeMode(),
            "maxPixels": str(self.getMaxPixels()),
            "applyExifOrientation": str(self.getApplyExifOrientation()).lower(),
            "fastDecode": str(self.getFastDecode()).lower(),
        }
