"""The Scala stage of the same name, where the session is classic and the jar is attached.

There a PySpark stage runs on the JVM path, and a pipeline of such stages is saved in the form that Scala's
own `PipelineModel.load` opens.

`SPARKDL_PATH=python` keeps to the Python path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark.errors.exceptions.captured import CapturedException
from pyspark.ml.util import JavaMLWritable
from pyspark.sql import DataFrame
from pyspark.sql.utils import is_remote

from sparkdl import _bundles
from sparkdl.exceptions import SparkDLError, SparkDLValueError
from sparkdl.models import supported_models

if TYPE_CHECKING:
    from sparkdl.transformers.picture_stage import PictureStage


def answers(stage_class: type[PictureStage]) -> bool:
    """Whether the JVM of this process can load the Scala stage of this name."""
    if os.environ.get("SPARKDL_PATH") == "python" or is_remote():
        return False
    from py4j.java_gateway import JavaClass
    from pyspark import SparkContext

    return SparkContext._jvm is not None and isinstance(_java_class(stage_class), JavaClass)


def face(stage_class: type[PictureStage]) -> type[PictureStage]:
    """The class to make an instance of: the stage's own, or one that leaves the work to Scala."""
    on_jvm = not issubclass(stage_class, OnJvm) and answers(stage_class)
    return _jvm_face(stage_class) if on_jvm else stage_class


def load(stage_class: type[PictureStage], path: str) -> Any:
    """The Scala stage saved there."""
    with same_errors():
        return _java_class(stage_class).load(path)


class OnJvm(JavaMLWritable):
    """Leaves the work to the Scala stage. `JavaMLWritable` makes Spark's pipelines save in the JVM's form."""

    _twin: Any = None

    def _forget(self) -> None:
        self._twin = None

    def copy(self: Any, extra: Any = None) -> Any:
        that = super().copy(extra)  # type: ignore[misc]
        that._twin = self._twin
        return that

    def _pinned(self) -> str | None:
        if self._twin is None:
            return None
        digest = java_stage(self).pinned()  # type: ignore[arg-type]
        return str(digest.get()) if digest.isDefined() else None

    def _transform(self: Any, dataset: DataFrame) -> DataFrame:
        self._check(dataset.schema)
        if self.getModelName() in supported_models() and self._pinned() is None:
            # Keras, if it is needed to make the bundle, is here and not in the JVM.
            _bundles.resolve(self.getModelName(), self.getWeights(), dataset.sparkSession)
        stage = self._to_java()
        with same_errors():
            return DataFrame(stage.transform(dataset._jdf), dataset.sparkSession)


def java_stage(stage: PictureStage) -> Any:
    """A Scala stage with the values of this one."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    known = getattr(stage, "_twin", None)
    nothing = gateway.jvm.org.apache.spark.ml.param.ParamMap()
    java = _java_class(type(stage))(stage.uid) if known is None else known.copy(nothing)
    values = _java_values(stage)
    with same_errors():
        for param in stage.params:
            java_param = java.getParam(param.name)
            if param.name not in values:
                java.clear(java_param)
            elif _value(java, java_param) != values[param.name]:
                _setter(java, param.name)(_to_java(values[param.name]))
    return java


def read_params(stage: PictureStage, java: Any) -> None:
    """Takes over the values that are set in a Scala stage, and the stage itself as the twin."""
    for param in stage.params:
        value = _value(java, java.getParam(param.name))
        if value is not None:
            stage._set(**{param.name: value})
    stage._twin = java  # type: ignore[attr-defined]


@contextmanager
def same_errors() -> Iterator[None]:
    """Raises the errors of the Scala stages as those of the Python stages."""
    try:
        yield
    except (CapturedException, Py4JJavaError) as error:
        # PySpark wraps only the exceptions it knows.
        origin = error._origin if isinstance(error, CapturedException) else error.java_exception
        if origin is None or not origin.getClass().getName().startswith("sparkdl.ffi.SparkDL"):
            raise
        kind = origin.kind().name()
        is_value = kind in ("InvalidArgument", "InvalidModel", "InvalidBatch")
        raise (SparkDLValueError if is_value else SparkDLError)(origin.getMessage(), kind) from error


def _java_values(stage: PictureStage) -> dict[str, Any]:
    """The values that are set; instead of a live model, which Scala cannot take, the bundle made of it."""
    from sparkdl.params import is_keras_model

    values = {param.name: value for param, value in stage._paramMap.items()}
    weights = values.get("weights", "imagenet")
    if weights != "imagenet" and values.get("modelName") in supported_models():
        from pyspark.sql import SparkSession

        bundle = _bundles.resolve(values["modelName"], weights, SparkSession.active())
        if is_keras_model(weights):
            return {**values, "modelName": str(bundle), "weights": "imagenet"}
    return values


@cache
def _jvm_face(stage_class: type[PictureStage]) -> type[PictureStage]:
    # The same names: Spark pairs Python and Scala classes by them.
    names = {name: getattr(stage_class, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(stage_class.__name__, (OnJvm, stage_class), names)


def _java_class(stage_class: type[PictureStage]) -> Any:
    from pyspark import SparkContext

    return getattr(SparkContext._jvm.sparkdl, stage_class.__name__)  # type: ignore[union-attr]


def _setter(java: Any, name: str) -> Any:
    return getattr(java, f"set{name[0].upper()}{name[1:]}")


def _to_java(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    array = gateway.new_array(gateway.jvm.java.lang.String, len(value))
    for index, item in enumerate(value):
        array[index] = item
    return array


def _value(java: Any, java_param: Any) -> Any:
    """What is set, as Python has it; None where nothing is."""
    if not java.isSet(java_param):
        return None
    value = java.getOrDefault(java_param)
    return value if isinstance(value, (str, int, float, bool)) else list(value)
