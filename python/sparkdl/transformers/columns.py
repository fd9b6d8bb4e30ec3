"""Which columns there are, how they travel through Arrow, and which ones a stage adds."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    CalendarIntervalType,
    DataType,
    IntegerType,
    MapType,
    StringType,
    StructField,
    StructType,
    YearMonthIntervalType,
)

from sparkdl.exceptions import SparkDLValueError


def found(schema: StructType, name: str) -> DataType:
    """The type of a column; refuses one that is not there or stands twice."""
    fields = [field for field in schema.fields if field.name == name]
    if not fields:
        available = ", ".join(schema.names)
        raise SparkDLValueError(f"Column {name} does not exist. Available columns: {available}.")
    if len(fields) > 1:
        raise SparkDLValueError(f"Column {name} is ambiguous: {len(fields)} columns have this name.")
    return fields[0].dataType


def named(name: str) -> Column:
    """The column of this name, whatever letters it has: a dot is none of a field."""
    return F.col("`" + name.replace("`", "``") + "`")


def check_new(schema: StructType, names: list[str]) -> None:
    """Refuses a new column whose name is taken."""
    taken = set(schema.names)
    for name in names:
        if name in taken:
            raise SparkDLValueError(f"Column {name} already exists.")
        taken.add(name)


def through_arrow(dataset: DataFrame) -> tuple[DataFrame, StructType]:
    """The same rows under positions for names, each column of a type that Arrow carries; and those types.

    Names with dots or names that stand twice break `mapInArrow`, so columns travel by position.
    """
    fields = dataset.schema.fields
    carried = [_carried(field.dataType) for field in fields]
    numbered = dataset.toDF(*(f"_{index}" for index in range(len(fields))))
    columns = [
        F.col(f"_{index}").cast(kind).alias(f"_{index}") if kind != field.dataType else F.col(f"_{index}")
        for index, (field, kind) in enumerate(zip(fields, carried, strict=True))
    ]
    travelling = StructType(
        [StructField(f.name, kind, f.nullable, f.metadata) for f, kind in zip(fields, carried, strict=True)]
    )
    return (numbered if travelling == dataset.schema else numbered.select(*columns)), travelling


def from_arrow(results: DataFrame, schema: StructType, travelled: StructType) -> DataFrame:
    """Puts back the types that went as text or numbers."""
    if schema == travelled:
        return results
    names = results.schema.names
    numbered = results.toDF(*(f"_{index}" for index in range(len(names))))
    columns = [F.col(f"_{index}") for index in range(len(names))]
    for index, (field, carried) in enumerate(zip(schema.fields, travelled.fields, strict=True)):
        if field.dataType != carried.dataType:
            columns[index] = _restored(columns[index], field)
    named = zip(columns, results.schema.fields, strict=True)
    restored = numbered.select(*(column.alias(f.name, metadata=f.metadata) for column, f in named))
    for field, result in zip(schema.fields, restored.schema.fields, strict=False):
        if (field.dataType, field.nullable) != (result.dataType, result.nullable):
            raise SparkDLValueError(
                f"Column {field.name} of type {field.dataType.simpleString()} cannot travel through Arrow "
                "with its nullability: drop the column, or cast it to string before this stage."
            )
    return restored


def _restored(column: Column, field: StructField) -> Column:
    restored = column.cast(field.dataType)
    if field.nullable or not isinstance(field.dataType, CalendarIntervalType):
        return restored
    return F.coalesce(restored, F.make_interval())  # a cast of text is nullable to Spark; no row is null here


def _carried(kind: DataType) -> DataType:
    """The type itself where Arrow carries it; else with text or numbers for what it does not carry."""
    if isinstance(kind, CalendarIntervalType) or kind.typeName() == "time":
        return StringType()
    if isinstance(kind, YearMonthIntervalType):
        return IntegerType()
    if isinstance(kind, ArrayType):
        return ArrayType(_carried(kind.elementType), kind.containsNull)
    if isinstance(kind, MapType):
        return MapType(_carried(kind.keyType), _carried(kind.valueType), kind.valueContainsNull)
    if isinstance(kind, StructType):
        fields = kind.fields
        return StructType([StructField(f.name, _carried(f.dataType), f.nullable, f.metadata) for f in fields])
    return kind


def name_columns(schema: StructType, more: tuple[str, ...]) -> tuple[int, ...]:
    """Positions of the columns that may name a row's file: text called `origin` or `path`, then `more`."""
    texts = [field.name if field.dataType == StringType() else None for field in schema.fields]
    named = [texts.index(name) for name in ("origin", "path") if name in texts]
    return (*named, *(schema.names.index(name) for name in more))
