"""The Scala stage of the same name, where the session is classic and the jar is attached.

There a PySpark stage runs on the JVM path, and a pipeline of such stages is saved in the form that Scala's
own `PipelineModel.load` opens.

`SPARKDL_PATH=python` keeps to the Python path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark.errors.exceptions.captured import CapturedException
from pyspark.ml.util import JavaMLWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.utils import is_remote

from sparkdl.exceptions import SparkDLError, SparkDLValueError

if TYPE_CHECKING:
    from sparkdl.transformers.model_stage import ModelStage


def answers(stage_class: type[ModelStage]) -> bool:
    """Whether the JVM of this process can load the Scala stage of this name."""
    if os.environ.get("SPARKDL_PATH") == "python" or is_remote():
        return False
    from py4j.java_gateway import JavaClass
    from pyspark import SparkContext

    return SparkContext._jvm is not None and isinstance(_java_class(stage_class), JavaClass)


def face(stage_class: type[ModelStage]) -> type[ModelStage]:
    """The class to make an instance of: the stage's own, or one that leaves the work to Scala."""
    on_jvm = not issubclass(stage_class, OnJvm) and answers(stage_class)
    return _jvm_face(stage_class) if on_jvm else stage_class


def python_face(stage_class: type[ModelStage]) -> type[ModelStage]:
    """The class that does the work itself."""
    return stage_class.__bases__[1] if issubclass(stage_class, OnJvm) else stage_class


def load(stage_class: type[ModelStage], path: str) -> Any:
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

    def _pinned(self: Any) -> str | None:
        if self._twin is None:
            return None
        digest = java_stage(self).pinned()
        return str(digest.get()) if digest.isDefined() else None

    def _transform(self: Any, dataset: DataFrame) -> DataFrame:
        self._check(dataset.schema)
        if self._pinned() is None:
            self._make(dataset.sparkSession)
        stage = self._to_java()
        with same_errors():
            return DataFrame(stage.transform(dataset._jdf), dataset.sparkSession)

    def _to_java(self: Any) -> Any:
        if self._saves_bundle() and self._pinned() is None:
            self._make(SparkSession.active())
        return java_stage(self)


def java_stage(stage: ModelStage) -> Any:
    """A Scala stage with the values of this one."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    known = getattr(stage, "_twin", None)
    nothing = gateway.jvm.org.apache.spark.ml.param.ParamMap()
    java = _java_class(type(stage))(stage.uid) if known is None else known.copy(nothing)
    values = stage._plain_values()
    with same_errors():
        for param in stage.params:
            if param.name in stage._python_alone:
                continue
            java_param = java.getParam(param.name)
            if param.name not in values:
                java.clear(java_param)
            elif _value(java, java_param) != values[param.name]:
                _setter(java, param.name)(_to_java(values[param.name]))
    return java


def read_params(stage: ModelStage, java: Any) -> None:
    """Takes over the values that are set in a Scala stage, and the stage itself as the twin."""
    for param in stage.params:
        if param.name in stage._python_alone:
            continue
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


@cache
def _jvm_face(stage_class: type[ModelStage]) -> type[ModelStage]:
    # The same names: Spark pairs Python and Scala classes by them.
    names = {name: getattr(stage_class, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(stage_class.__name__, (OnJvm, stage_class), names)


def _java_class(stage_class: type[ModelStage]) -> Any:
    from pyspark import SparkContext

    return getattr(SparkContext._jvm.sparkdl, stage_class.__name__)  # type: ignore[union-attr]


def _setter(java: Any, name: str) -> Any:
    return getattr(java, f"set{name[0].upper()}{name[1:]}")


def _to_java(value: Any) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    if isinstance(value, dict):
        entries = gateway.jvm.java.util.HashMap()
        for key, item in value.items():
            entries.put(key, item)
        return entries
    kind = gateway.jvm.int if value and isinstance(value[0], int) else gateway.jvm.java.lang.String
    array = gateway.new_array(kind, len(value))
    for index, item in enumerate(value):
        array[index] = item
    return array


def _value(java: Any, java_param: Any) -> Any:
    """What is set, as Python has it; None where nothing is."""
    if not java.isSet(java_param):
        return None
    return json.loads(java_param.jsonEncode(java.getOrDefault(java_param)))
