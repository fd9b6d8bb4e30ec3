"""Labels as numbers: which column types go with which loss, and the index of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DataType,
    IntegerType,
    LongType,
    NumericType,
    ShortType,
    StringType,
    StructField,
)

from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers import columns

_WHOLE = (ByteType, ShortType, IntegerType, LongType, BooleanType)


@dataclass(frozen=True)
class Labels:
    """How the labels of a column become numbers."""

    kind: str
    """`number` (itself an index or a value), `text` (indexed by `names`), `vector` (one number an output)."""
    names: tuple[str, ...] = ()
    """Labels by index, as text; empty where they are numbers."""

    def column(self, name: str, found: DataType) -> Column:
        """The label as a double, or as an array of floats; null where there is none that was indexed."""
        column = columns.named(name)
        if self.kind == "vector":
            return as_array(column, found)
        if self.kind == "text":
            return index_of(column, self.names)
        return column.cast("double")


def as_array(column: Column, found: DataType) -> Column:
    """A vector or an array of numbers as an array of floats."""
    if isinstance(found, VectorUDT):
        # Spark's function takes no null.
        return F.when(column.isNotNull(), vector_to_array(column, "float32"))
    return column.cast("array<float>")


def index_of(column: Column, names: Sequence[str]) -> Column:
    """The place of a label among `names`, as a double; null where it is not one of them."""
    known = F.array(*(F.lit(name) for name in names))
    place = F.array_position(known, column.cast("string"))
    return F.when(place > 0, (place - 1).cast("double"))


def check(field: StructField, facts: dict[str, Any]) -> str:
    """The kind of a column's labels; refuses one that does not go with the model and its loss."""
    found, size, loss = field.dataType, outputs(facts), facts["loss"]
    what = f"Column {field.name} is of type {found.simpleString()}"
    if facts["family"] in ("sparse", "categorical") and size < 2:
        raise SparkDLValueError(
            f"The model {facts['name']} gives {size} number a row, but the loss {loss} is for several "
            "classes: use binary_crossentropy, or a model with one output a class."
        )
    if isinstance(found, VectorUDT) or (
        isinstance(found, ArrayType) and isinstance(found.elementType, NumericType)
    ):
        return "vector"
    if len(facts["outputs"][0]["shape"]) > 1 and size > 1:
        raise SparkDLValueError(
            f"{what}, but the model {facts['name']} gives {size} numbers of shape "
            f"{facts['outputs'][0]['shape']}: give labels as flat arrays or vectors."
        )
    if isinstance(found, StringType):
        if is_regression(facts):
            raise SparkDLValueError(
                f"{what}, but the loss {loss} compares numbers: give a column of numbers, or set kerasLoss "
                "to one for classes."
            )
        return "text"
    if isinstance(found, (NumericType, BooleanType)):
        return "number"
    raise SparkDLValueError(
        f"{what}, which holds no labels: give numbers, strings, arrays of numbers, or vectors."
    )


def outputs(facts: dict[str, Any]) -> int:
    """How many numbers the model gives for a row."""
    shape = facts["outputs"][0]["shape"]
    if None in shape:
        raise SparkDLValueError(
            f"The output {facts['outputs'][0]['name']} of the model {facts['name']} has the shape {shape}: "
            "an estimator needs one of a known size."
        )
    return prod(shape)


def is_regression(facts: dict[str, Any]) -> bool:
    """Whether the one output is a number of its own, not the score of a class."""
    return facts["family"] == "values" and outputs(facts) == 1


def resolved(dataset: DataFrame, field: StructField, kind: str, facts: dict[str, Any]) -> Labels:
    """The labels of a data set: what is no index is given one. Runs a job, or two."""
    size, found = outputs(facts), field.dataType
    column = columns.named(field.name)
    if kind == "vector":
        _check_sizes(dataset, field, size)
        return Labels("vector")
    if is_regression(facts):
        return Labels("number")
    classes = 2 if size == 1 else size
    if kind == "number":
        number = column.cast("double")
        extremes: Any = dataset.select(
            F.min(number), F.max(number), F.sum(F.when(number != F.floor(number), 1).otherwise(0))
        ).first()
        least, most, broken = extremes
        if size == 1 and not isinstance(found, _WHOLE) and (least or 0) >= 0 and (most or 0) <= 1:
            return Labels("number")
        if broken:
            raise SparkDLValueError(
                f"Column {field.name} has labels that are no whole numbers, but the loss {facts['loss']} is "
                "for classes: give indexes of classes, or set kerasLoss to one for numbers."
            )
        if least is None or (least >= 0 and most < classes):
            return Labels("number", _names(field, classes))
        if not isinstance(found, _WHOLE):
            raise SparkDLValueError(
                f"Column {field.name} has labels from {least:g} to {most:g}, but the model {facts['name']} "
                f"tells {classes} classes: give indexes from 0 to {classes - 1}, or whole numbers or "
                "strings, which are indexed."
            )
    distinct = dataset.select(column.alias("label")).where(column.isNotNull()).distinct()
    found_labels: list[Any] = sorted(row["label"] for row in distinct.limit(classes + 1).collect())
    if len(found_labels) > classes:
        raise SparkDLValueError(
            f"Column {field.name} has more different labels than the {classes} classes that the model "
            f"{facts['name']} tells, as {', '.join(map(str, found_labels[:5]))}: give a "
            "model with one output a label."
        )
    return Labels("text", tuple(map(str, found_labels)))


def _names(field: StructField, classes: int) -> tuple[str, ...]:
    """What a StringIndexer left in the column's metadata."""
    names = (field.metadata or {}).get("ml_attr", {}).get("vals", [])
    return tuple(map(str, names)) if 0 < len(names) <= classes else ()


def _check_sizes(dataset: DataFrame, field: StructField, size: int) -> None:
    length = F.size(as_array(columns.named(field.name), field.dataType))
    lengths = F.when(columns.named(field.name).isNotNull(), length)
    extremes: Any = dataset.select(F.min(lengths), F.max(lengths)).first()
    least, most = extremes
    if least is not None and (least, most) != (size, size):
        raise SparkDLValueError(
            f"Column {field.name} has labels of {least} {f'to {most} ' if most != least else ''}numbers, but "
            f"the model gives {size} for a row: give one number an output (a OneHotEncoder leaves the last "
            "class out unless dropLast=False)."
        )


def target(labels: Labels, facts: dict[str, Any]) -> dict[str, Any]:
    """What the trial's process needs to know of the labels."""
    return {"kind": labels.kind, "family": facts["family"], "texts": bool(labels.names)}


def prediction_kind(labels: Labels, facts: dict[str, Any]) -> str:
    """What the fitted model's predictionCol holds."""
    size = outputs(facts)
    if len(facts["outputs"][0]["shape"]) > 1 and size > 1:
        return "none"
    if size == 1:
        return "binary" if facts["family"] == "binary" else "value"
    return "none" if facts["family"] == "values" and labels.kind == "vector" else "class"


def weights_by_index(weights: Any, labels: Labels) -> Any:
    """`classWeights` by index: keys may be labels."""
    if not isinstance(weights, dict):
        return weights
    by_index = dict[str, float]()
    for given, weight in weights.items():
        key = str(labels.names.index(given)) if given in labels.names else given
        if not key.isdigit():
            known = f": they are {', '.join(labels.names)}" if labels.names else ", which are indexes from 0"
            raise SparkDLValueError(f"classWeights has {key}, which is none of the labels{known}.")
        by_index[key] = weight
    return by_index
