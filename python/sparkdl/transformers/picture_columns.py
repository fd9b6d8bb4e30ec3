"""Which columns can hold pictures, how columns travel through Arrow, and which columns a stage adds."""

from __future__ import annotations

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    CalendarIntervalType,
    DataType,
    FloatType,
    IntegerType,
    MapType,
    StringType,
    StructField,
    StructType,
    YearMonthIntervalType,
)

from sparkdl.exceptions import SparkDLValueError

IMAGE_TYPE = StructType(
    [
        StructField("origin", StringType()),
        StructField("height", IntegerType()),
        StructField("width", IntegerType()),
        StructField("nChannels", IntegerType()),
        StructField("mode", IntegerType()),
        StructField("data", BinaryType()),
    ]
)
"""Spark's image struct: BGR, row by row."""

CLASSES_TYPE = ArrayType(
    StructType(
        [
            StructField("class", StringType(), False),
            StructField("description", StringType(), False),
            StructField("probability", FloatType(), False),
        ]
    ),
    False,
)
"""The best classes by name, best first."""


def check_input(schema: StructType, name: str) -> None:
    """Refuses an input column that is not there, stands twice, or cannot hold pictures."""
    fields = [field for field in schema.fields if field.name == name]
    if not fields:
        available = ", ".join(schema.names)
        raise SparkDLValueError(f"Column {name} does not exist. Available columns: {available}.")
    if len(fields) > 1:
        raise SparkDLValueError(f"Column {name} is ambiguous: {len(fields)} columns have this name.")
    found = fields[0].dataType
    if not (isinstance(found, BinaryType) or is_image(found)):
        raise SparkDLValueError(
            f"Column {name} must be of type binary or image (struct<{','.join(IMAGE_TYPE.names)}>) "
            f"but was actually {found.simpleString()}."
        )


def is_image(found: DataType) -> bool:
    """Whether a type is Spark's image struct, whatever it says of nulls."""
    if not isinstance(found, StructType):
        return False
    return [(f.name, f.dataType) for f in found] == [(f.name, f.dataType) for f in IMAGE_TYPE]


def check_new(schema: StructType, fields: list[StructField]) -> None:
    """Refuses a new column whose name is taken."""
    taken = set(schema.names)
    for field in fields:
        if field.name in taken:
            raise SparkDLValueError(f"Column {field.name} already exists.")
        taken.add(field.name)


def output_field(name: str, kind: str, size: int) -> StructField:
    """The column of results: `vector` with its size in ML metadata, `array` of floats, or `topK` classes."""
    if kind == "vector":
        return StructField(name, VectorUDT(), metadata={"ml_attr": {"num_attrs": size}})
    return StructField(name, CLASSES_TYPE if kind == "topK" else ArrayType(FloatType(), False))


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
    for field, found in zip(schema.fields, restored.schema.fields, strict=False):
        if (field.dataType, field.nullable) != (found.dataType, found.nullable):
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


def name_columns(schema: StructType) -> tuple[int, ...]:
    """Positions of the text columns that may name a row's file: `origin`, then `path`."""
    texts = [field.name if field.dataType == StringType() else None for field in schema.fields]
    return tuple(texts.index(name) for name in ("origin", "path") if name in texts)
