"""Which columns can hold pictures, and what comes out for them."""

from __future__ import annotations

from pyspark.ml.linalg import VectorUDT
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    FloatType,
    IntegerType,
    StringType,
    StructField,
    StructType,
)

from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers import columns

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
    found = columns.found(schema, name)
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


def output_field(name: str, kind: str, size: int) -> StructField:
    """The column of results: `vector` with its size in ML metadata, `array` of floats, `image`, or `topK`."""
    if kind == "vector":
        return StructField(name, VectorUDT(), metadata={"ml_attr": {"num_attrs": size}})
    types: dict[str, DataType] = {"topK": CLASSES_TYPE, "image": IMAGE_TYPE}
    return StructField(name, types.get(kind, ArrayType(FloatType(), False)))
