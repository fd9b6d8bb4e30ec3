"""Which columns can feed an input of a model, and which columns its outputs become."""

from __future__ import annotations

from math import prod

from pyspark.ml.linalg import VectorUDT
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
)

from sparkdl._tensor import Tensor
from sparkdl.exceptions import SparkDLValueError

_WHOLE = (ByteType, ShortType, IntegerType, LongType)
_BROKEN = (FloatType, DoubleType)
_TEXTS = (StringType, BinaryType)
_TYPES: dict[str, DataType] = {
    "bool": BooleanType(),
    "float16": FloatType(),
    "float32": FloatType(),
    "float64": DoubleType(),
    "int8": ByteType(),
    "int16": ShortType(),
    "int32": IntegerType(),
    "int64": LongType(),
    "string": StringType(),
    "uint8": ShortType(),
}


def check_fits(column: str, kind: DataType, tensor: Tensor, model: str) -> None:
    """Refuses a column whose type cannot feed this input."""
    depth, element = _nesting(kind)
    takes = (
        f"Column {column} is of type {kind.simpleString()}, but the input {tensor.name} of the model {model} "
        f"takes {_values(tensor)} of shape {tensor.sides()} and type {tensor.dtype}"
    )
    if tensor.dtype == "uint8" and tensor.shape and isinstance(kind, BinaryType):
        return
    if tensor.dtype == "string":
        if not isinstance(element, _TEXTS):
            raise SparkDLValueError(f"{takes}: cast the column to string first.")
    elif not isinstance(element, (BooleanType, *_WHOLE, *_BROKEN)):
        raise SparkDLValueError(f"{takes}: give a column of numbers, of arrays of numbers, or of vectors.")
    rank = len(tensor.shape)
    if depth not in (1, rank) and not (depth == 0 and tensor.shape == (1,)):
        raise SparkDLValueError(f"{takes}: give {_needed(tensor)}.")
    if tensor.dtype == "bool" and not isinstance(element, BooleanType):
        raise SparkDLValueError(f"{takes}: cast the column to boolean first.")
    if tensor.dtype in ("int8", "int16", "int32", "int64", "uint8") and isinstance(element, _BROKEN):
        raise SparkDLValueError(f"{takes}: cast the column to whole numbers first.")


_SAME: dict[str, tuple[type[DataType], ...]] = {
    "bool": (BooleanType,),
    "float16": (FloatType,),
    "float32": (FloatType,),
    "float64": (DoubleType,),
    "int8": (ByteType,),
    "int16": (ShortType,),
    "int32": (IntegerType,),
    "int64": (LongType,),
    "uint8": (ShortType, BinaryType),
    "string": (StringType, BinaryType),
}


def check_same(column: str, kind: DataType, tensor: Tensor, model: str) -> None:
    """Refuses a column whose type is not the one that stands for this input's."""
    depth, element = _nesting(kind)
    if not isinstance(element, (BooleanType, *_WHOLE, *_BROKEN, *_TEXTS)):
        return  # What holds no values at all is refused by `check_fits`.
    same = _SAME[tensor.dtype]
    is_vector = isinstance(kind, VectorUDT) and tensor.dtype.startswith("float")
    if isinstance(element, same) or is_vector:
        return
    wanted = same[0]().simpleString()
    for _ in range(depth):
        wanted = f"array<{wanted}>"
    raise SparkDLValueError(
        f"Column {column} is of type {kind.simpleString()}, but the input {tensor.name} of the graph {model} "
        f"takes {_values(tensor)} of shape {tensor.sides()} and type {tensor.dtype}: cast the column to "
        f"{wanted}, or set castInputs."
    )


def _nesting(kind: DataType) -> tuple[int, DataType]:
    """How deep arrays are nested, and what is in them; a vector is an array of doubles."""
    if isinstance(kind, VectorUDT):
        return 1, DoubleType()
    if isinstance(kind, ArrayType):
        depth, element = _nesting(kind.elementType)
        # Arrays of vectors are no arrays of numbers.
        return (depth + 1, element) if not isinstance(kind.elementType, VectorUDT) else (0, kind)
    return 0, kind


def _values(tensor: Tensor) -> str:
    return "texts" if tensor.dtype == "string" else "numbers"


def _needed(tensor: Tensor) -> str:
    if tensor.shape in ((), (1,)):
        return "a plain number, or an array of one"
    rank = len(tensor.shape)
    return "an array of numbers" if rank == 1 else f"arrays nested {rank} deep, or one flat array"


def check_mode(outputs: list[Tensor], mode: str, model: str) -> None:
    """Refuses texts where vectors are wanted."""
    for tensor in outputs:
        if mode == "vector" and tensor.dtype == "string":
            raise SparkDLValueError(
                f"The output {tensor.name} of the model {model} is of type string, which no vector holds: "
                'set outputMode to "array".'
            )


def output_field(name: str, mode: str, tensor: Tensor) -> StructField:
    """The column of an output: a vector with its size where that is known, or arrays nested by its shape."""
    if mode == "vector":
        size = numbers(tensor)
        metadata = None if size is None else {"ml_attr": {"num_attrs": size}}
        return StructField(name, VectorUDT(), metadata=metadata)
    kind = _TYPES[tensor.dtype]
    for _ in tensor.shape:
        kind = ArrayType(kind, False)
    return StructField(name, kind)


def numbers(tensor: Tensor) -> int | None:
    """How many numbers a row has; None where a side is of any size."""
    known = [side for side in tensor.shape if side is not None]
    return prod(known) if len(known) == len(tensor.shape) else None
