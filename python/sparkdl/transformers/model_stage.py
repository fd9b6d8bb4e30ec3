"""What all stages share: a model that is found, checked, shipped and saved, and rows that go through it."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pyspark.ml import Transformer
from pyspark.ml.param import Param
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from sparkdl import _batches, _bundles, _engine, _shipping, params
from sparkdl.exceptions import SparkDLValueError
from sparkdl.persistence import Pin, StageReader, StageWriter
from sparkdl.transformers import columns, twin

S = TypeVar("S", bound="ModelStage")


@dataclass(frozen=True)
class Bundle:
    """A bundle on the driver's disk, and what its manifest says."""

    file: Path
    digest: str
    manifest: dict[str, Any]

    def is_for_pictures(self) -> bool:
        """Whether it holds a network for pictures; else it holds a model on tensors."""
        return isinstance(self.manifest["outputs"], dict)


@dataclass(frozen=True)
class Plan:
    """How the rows of one DataFrame go through a model."""

    source: _batches.Source
    options: dict[str, str]
    """What the native model computes: `task` and what belongs to it."""
    fields: list[StructField]
    """The column that each output becomes."""
    kinds: list[str]
    """In which form, as `_batches.Task.outputs` has them."""
    numbers: int
    """Numbers of a row's largest output; 1 where that is not known."""
    named_by: tuple[str, ...] = ()
    """Columns that may name a row, besides those of text that are called so."""


class ModelStage(
    Transformer,
    params.HasBatchSize,
    params.HasHandleInvalid,
    params.HasErrorCol,
    params.HasExpectedSha256,
    MLReadable[Any],
    MLWritable,
):
    """A stage that runs rows through a model.

    All other columns pass through untouched. Nothing runs until the result is used, and streaming DataFrames
    are fine.
    """

    _input_kwargs: dict[str, Any]
    _pin: Pin | None = None
    _of_the_model: ClassVar[tuple[str, ...]]
    """Params that say which model it is: while they keep their values, a loaded stage keeps its bundle."""
    _live: ClassVar[str]
    """The param among them that takes a live model."""
    _python_alone: ClassVar[tuple[str, ...]] = ()
    """Params that the Scala stage does not have: with one of them set, the stage stays on the Python path."""
    _what = "picture"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(twin.face(cls))

    def write(self) -> Any:
        """A writer of this stage: `write().overwrite().save(path)`."""
        return StageWriter(self)

    @classmethod
    def read(cls) -> StageReader:
        """A reader of saved stages: `read().load(path)`."""
        return StageReader(cls)

    @classmethod
    def _on_jvm(cls: type[S], path: str, values: dict[str, Any]) -> S | None:
        """The stage saved there, read by its Scala twin where there is one that takes all of its params."""
        if not twin.answers(cls) or any(name in values for name in cls._python_alone):
            return None
        return cls._from_java(twin.load(cls, path))

    @classmethod
    def _from_java(cls: type[S], java_stage: Any) -> S:
        stage = cls()
        stage._resetUid(java_stage.uid())
        twin.read_params(stage, java_stage)
        return stage

    def _to_java(self) -> Any:
        return twin.java_stage(self)

    def _set(self: S, **values: Any) -> S:
        if any(name in values for name in self._of_the_model):
            self._forget()
        stage = super()._set(**values)
        self._keep_face()
        return stage

    def set(self, param: Param[Any], value: Any) -> None:
        """Sets a param, as Spark's own loading and tuning do."""
        super().set(param, value)
        self._keep_face()

    def _keep_face(self) -> None:
        """Goes on as a stage of the Python path, with the bundle it was loaded with, where Scala cannot."""
        face = twin.python_face(type(self))
        if face is type(self) or not any(self.isSet(self.getParam(name)) for name in self._python_alone):
            return
        pinned = self._pinned()
        self.__class__ = face
        self._pin = None if pinned is None else Pin(pinned, self._model_values())

    def copy(self: S, extra: dict[Param[Any], Any] | None = None) -> S:
        """A copy with `extra` values, and the bundle this stage was loaded with where that fits them."""
        that = super().copy(extra)
        that._pin = self._pin
        that._keep_face()
        return that

    def _forget(self) -> None:
        """Lets go of the bundle that this stage was loaded with."""
        self._pin = None

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check(dataset.schema)
        bundle = self._bundle(dataset.sparkSession)
        return self._run(dataset, bundle, self._plan(dataset.schema, bundle))

    def _check(self, schema: StructType) -> None:
        """Refuses, without a job, what can be told from the params and the schema."""
        for param in self._needed():
            if not self.isDefined(param):
                raise SparkDLValueError(f"{type(self).__name__} needs the param {param.name}: set it first.")
        self._check_columns(schema)
        self._check_model()

    @abstractmethod
    def _needed(self) -> list[Param[Any]]:
        """The params without which nothing goes."""

    @abstractmethod
    def _check_columns(self, schema: StructType) -> None:
        """Refuses columns that are not there, have a wrong type, or are there already."""

    def _check_model(self) -> None:
        """Refuses values of params that go with no model."""

    @abstractmethod
    def _plan(self, schema: StructType, bundle: Bundle) -> Plan:
        """How rows go through this model; refuses what it cannot do."""

    @abstractmethod
    def _resolve(self, spark: SparkSession) -> Path:
        """The bundle that the params name: given, in the cache, or made now."""

    @abstractmethod
    def _make(self, spark: SparkSession) -> None:
        """Makes the bundle where it is not given but made: Keras, if it is needed for that, is in Python."""

    @abstractmethod
    def _saves_bundle(self) -> bool:
        """Whether a saved stage needs the bundle with it."""

    @abstractmethod
    def _values_of(self, bundle: Path) -> dict[str, Any]:
        """The values of the params of the model that name this bundle."""

    def _is_live(self, value: Any) -> bool:
        """Whether a value of the param `_live` is an object of this process, and not a path."""
        return params.is_keras_model(value)

    def _asked(self, **choices: str) -> _bundles.Asked:
        digest = self.getExpectedSha256() if self.isSet(self.expectedSha256) else ""
        return _bundles.Asked(expected_sha256=digest.lower(), **choices)

    def _new_column_names(self, outputs: list[str]) -> list[str]:
        return [*outputs, *([self.getErrorCol()] if self.isSet(self.errorCol) else [])]

    def _model_values(self) -> tuple[Any, ...]:
        values = (self.getParam(name) for name in self._of_the_model)
        return tuple(self.getOrDefault(param) if self.isDefined(param) else None for param in values)

    def _pinned(self) -> str | None:
        """The digest of the bundle it was loaded with, while the params of the model keep their values."""
        pin = self._pin
        return pin.digest if pin is not None and pin.values == self._model_values() else None

    def _bundle(self, spark: SparkSession) -> Bundle:
        pinned = self._pinned()
        if pinned is None:
            file = self._resolve(spark)
        else:
            file = _shipping.kept_file(spark, pinned)
            if not file.exists():
                raise SparkDLValueError(
                    f"The bundle {pinned} of a loaded stage is no longer in the cache folder: "
                    f"{file} is missing. Load the stage again."
                )
        manifest, digest = _engine.describe_bundle(file)
        return Bundle(file, digest, json.loads(manifest))

    def _plain_values(self) -> dict[str, Any]:
        """The values that are set; instead of a live model, the bundle made of it."""
        values = {param.name: value for param, value in self._paramMap.items()}
        if self._is_live(values.get(self._live)):
            values |= self._values_of(self._resolve(SparkSession.active()))
        return values

    def _to_save(self, spark: SparkSession) -> tuple[dict[str, Any], Bundle | None]:
        """The values to save, and the bundle: none where the params alone pin the model by hash."""
        bundle = self._bundle(spark) if self._saves_bundle() else None
        return self._plain_values(), bundle

    def _run(self, dataset: DataFrame, bundle: Bundle, plan: Plan) -> DataFrame:
        schema = dataset.schema
        new = list(plan.fields)
        if self.isSet(self.errorCol):
            new.append(StructField(self.getErrorCol(), StringType()))
        rows, travelling = columns.through_arrow(dataset)
        task = _batches.Task(
            model=self._opening(dataset.sparkSession, bundle, plan, dataset.isStreaming),
            source=plan.source,
            batch_size=min(self.getBatchSize(), max(1, _batches.MAX_NUMBERS // plan.numbers)),
            outputs=tuple(plan.kinds),
            invalid=_batches.Invalid(
                handling=self.getHandleInvalid(),
                with_reason=self.isSet(self.errorCol),
                what=self._what,
                name_columns=columns.name_columns(schema, plan.named_by),
            ),
        )
        results = rows.mapInArrow(partial(_batches.run, task), StructType([*travelling.fields, *new]))
        return columns.from_arrow(results, schema, travelling)

    def _opening(self, spark: SparkSession, bundle: Bundle, plan: Plan, in_stream: bool) -> _engine.Opening:
        carried = _shipping.carried(bundle.file) if in_stream and _shipping.is_connect(spark) else None
        return _engine.Opening(
            bundle=bundle.digest if carried else _shipping.ship(spark, bundle.file, bundle.digest),
            carried=carried,
            options=tuple(plan.options.items()),
            tensorflow_path=spark.conf.get("spark.sparkdl.tensorflow.path", None) or "",
            threads=_engine.configured_threads(spark),
        )
