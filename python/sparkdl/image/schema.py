"""Spark's image struct, built without a JVM (Spark's own `pyspark.ml.image` asks one, which Connect does
not have).
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql.types import BinaryType, IntegerType, StringType, StructField, StructType

from sparkdl.exceptions import SparkDLValueError

columnSchema = StructType(
    [
        StructField("origin", StringType(), True),
        StructField("height", IntegerType(), True),
        StructField("width", IntegerType(), True),
        StructField("nChannels", IntegerType(), True),
        StructField("mode", IntegerType(), True),
        StructField("data", BinaryType(), True),
    ]
)
"""The type of an image column. `data` is row-major, top row first, channels interleaved as B, G, R(, A)."""

imageSchema = StructType([StructField("image", columnSchema, True)])
"""A DataFrame with one image column, as `spark.read.format("image")` gives."""


class ImageType(NamedTuple):
    """One of OpenCV's types: `ord` is what an image struct carries as `mode`, `dtype` is numpy's name."""

    name: str
    ord: int
    nChannels: int
    dtype: str


imageTypes = (
    ImageType("CV_8UC1", 0, 1, "uint8"),
    ImageType("CV_32FC1", 5, 1, "float32"),
    ImageType("CV_8UC3", 16, 3, "uint8"),
    ImageType("CV_32FC3", 21, 3, "float32"),
    ImageType("CV_8UC4", 24, 4, "uint8"),
    ImageType("CV_32FC4", 29, 4, "float32"),
)
"""All types that an image struct can have. Spark's own reader makes the `CV_8U` ones only."""


def imageTypeByOrdinal(ord: int) -> ImageType:
    """The type whose `mode` is `ord`. Spark's invalid-image row has mode -1, which is no type:
    `SparkDLValueError`.
    """
    for imageType in imageTypes:
        if imageType.ord == ord:
            return imageType
    known = ", ".join(f"{t.ord} ({t.name})" for t in imageTypes)
    raise SparkDLValueError(f"Unknown image mode {ord}. Known modes: {known}.")


def imageTypeByName(name: str) -> ImageType:
    """The type of a name such as `CV_8UC3`; any other is a `SparkDLValueError`."""
    for imageType in imageTypes:
        if imageType.name == name:
            return imageType
    known = ", ".join(t.name for t in imageTypes)
    raise SparkDLValueError(f"Unknown image type {name}. Known types: {known}.")
