"""Files to DataFrames of pictures. All work is done on the executors, in Arrow batches, with or without
Spark Connect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import StructField, StructType

from sparkdl import _engine
from sparkdl.exceptions import SparkDLError, SparkDLValueError
from sparkdl.image.conversion import imageArrayToStruct
from sparkdl.image.schema import columnSchema, imageSchema
from sparkdl.transformers import columns

_IMAGE = pa.struct(
    [
        ("origin", pa.string()),
        *((name, pa.int32()) for name in ("height", "width", "nChannels", "mode")),
        ("data", pa.binary()),
    ]
)
_ROWS_OF_A_CALL = 32
_HASHES = 1 << 32

# Every option of the core but the size and `threads`, which are added.
_DECODING = {
    "scaleHint": "SCALE_AREA_AVERAGING",
    "resizeMode": "stretch",
    "maxPixels": "89478485",
    "applyExifOrientation": "false",
    "fastDecode": "false",
}


def readImages(
    path: str | list[str],
    *,
    recursive: bool = False,
    sampleRatio: float = 1.0,
    seed: int = 0,
    dropInvalid: bool = False,
    numPartitions: int = 0,
    maxPixels: int = 89_478_485,
    applyExifOrientation: bool = False,
    spark: SparkSession | None = None,
) -> DataFrame:
    """A DataFrame with a column `image` of Spark's image struct, from any path or glob that Hadoop knows,
    or several.

    Holds what `spark.read.format("image")` holds, and reads more formats. What cannot be decoded, a
    truncated file too, is Spark's invalid-image row (height and mode -1, no data), or is left out with
    `dropInvalid`. Columns of partitioned folders (`kind=rose/`) follow `image`. `recursive` reads sub-
    folders. `sampleRatio` keeps files by a hash of their path and `seed`: the same files each time, and
    the others are not opened. `numPartitions` spreads the decoding over so many tasks; 0 leaves that to
    Spark.
    """
    _require(0 < sampleRatio <= 1, f"sampleRatio must be above 0 and at most 1 but was {sampleRatio}.")
    _require(maxPixels >= 1, f"maxPixels must be at least 1 but was {maxPixels}.")
    session = _session(spark)
    files = session.read.format("binaryFile").option("recursiveFileLookup", str(recursive).lower()).load(path)
    if sampleRatio < 1:
        hashed = F.pmod(F.xxhash64("_metadata.file_path", F.lit(seed).cast("bigint")), F.lit(_HASHES))
        files = files.filter(hashed < F.lit(int(sampleRatio * _HASHES)))
    partitioning = files.schema.fields[4:]  # behind path, modificationTime, length and content
    # Spark's image source writes file:///a where the file's metadata have file:/a.
    origin = F.regexp_replace("_metadata.file_path", "^([A-Za-z][A-Za-z0-9+.-]*):/(?!/)", "$1:///")
    extra = [columns.named(field.name).alias(f"_{n}") for n, field in enumerate(partitioning)]
    encoded = _spread(files.select(origin.alias("origin"), F.col("content"), *extra), numPartitions)
    schema = StructType([*imageSchema.fields, *(StructField(f.name, f.dataType, True) for f in partitioning)])
    options = {"maxPixels": str(maxPixels), "applyExifOrientation": str(applyExifOrientation).lower()}
    decoder = _Decoder(dropInvalid, options, _engine.configured_threads(session))
    return encoded.mapInArrow(decoder, schema)


def readImagesWithCustomFn(
    path: str,
    decode_f: Callable[[bytes], NDArray[Any]],
    numPartition: int | None = None,
    spark: SparkSession | None = None,
) -> DataFrame:
    """A DataFrame with a column `image` of what `decode_f` makes of each file's bytes.

    `decode_f` returns `[height, width, channels]`, uint8 or float32, BGR(A) or grey; `imageIO.PIL_decode`
    is one. Where it raises, the image is null, and the executor's log has the first error and how many
    there were.
    """
    files = filesToDF(_session(spark), path, numPartition)
    return files.mapInArrow(_custom_decoder(decode_f), imageSchema)


def filesToDF(sc: Any, path: str, numPartitions: int | None = None) -> DataFrame:
    """Files to rows of `filePath: string, fileData: binary`. `sc` is a SparkSession, or a SparkContext as
    in the original.
    """
    session = sc if hasattr(sc, "read") else _session(None)
    files = session.read.format("binaryFile").load(path)
    return _spread(
        files.select(F.col("path").alias("filePath"), F.col("content").alias("fileData")), numPartitions
    )


def resize_function(height: int, width: int) -> Callable[..., Any]:
    """`createResizeImageUDF` without its checks."""
    options = {**_DECODING, "height": str(height), "width": str(width)}

    def resize(images: pa.Array) -> pa.Array:
        images = images.cast(_IMAGE)
        invalid = pc.equal(images.field("mode"), -1).fill_null(False)
        return pc.if_else(invalid, images, _decoded(images, options, 0))

    make: Any = arrow_udf  # its types know no structs
    udf: Callable[..., Any] = make(resize, columnSchema)
    return udf


class _Decoder:
    """Batches of origin, content and further columns to batches of image and the further columns."""

    def __init__(self, drop_invalid: bool, options: dict[str, str], threads: int) -> None:
        self._drop_invalid = drop_invalid
        self._threads = threads
        self._options = {**_DECODING, **options, "height": "0", "width": "0"}

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_OF_A_CALL):
                yield from self._decode(batch.slice(start, _ROWS_OF_A_CALL))

    def _decode(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        try:
            images = _decoded(batch.column(1), self._options, self._threads)
        except SparkDLError as error:
            if error.kind != "InvalidBatch" or batch.num_rows == 1:
                raise
            # Large pictures: together they pass the 2 GiB that a batch can hold.
            half = batch.num_rows // 2
            yield from self._decode(batch.slice(0, half))
            yield from self._decode(batch.slice(half))
            return
        if self._drop_invalid:
            batch, images = batch.filter(images.is_valid()), images.filter(images.is_valid())
        columns = [_with_origin(images, batch.column(0)), *batch.columns[2:]]
        names = ["image", *(f"_{n}" for n in range(len(columns) - 1))]
        yield pa.RecordBatch.from_arrays(columns, names)


def _decoded(pictures: pa.Array, options: dict[str, str], threads: int) -> pa.StructArray:
    """Encoded files or image structs to image structs, null where a picture is invalid."""
    batch = pa.RecordBatch.from_arrays([pictures], ["picture"])
    pairs = [*options.items(), ("threads", str(_engine.threads(threads)))]
    return _engine.decode_images(batch, pairs).column(0)


def _with_origin(images: pa.StructArray, origins: pa.Array) -> pa.StructArray:
    """Fills in where pictures come from, and makes Spark's invalid-image row of nulls."""
    _, *numbers, data = images.flatten()
    columns = [origins, *(number.fill_null(-1) for number in numbers), data.fill_null(b"")]
    return pa.StructArray.from_arrays(columns, fields=list(_IMAGE))


def _custom_decoder(
    decode: Callable[[bytes], NDArray[Any]],
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def convert(path: str, content: bytes, errors: list[str]) -> dict[str, Any] | None:
        try:
            row = imageArrayToStruct(decode(content), origin=path).asDict()
            return {**row, "data": bytes(row["data"])}
        except Exception as error:  # whatever a user's function may raise
            errors.append(f"{path}: {type(error).__name__}: {error}")
            return None

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        errors: list[str] = []
        for batch in batches:
            for path, content in zip(batch.column(0), batch.column(1), strict=True):
                image = convert(path.as_py(), content.as_py(), errors)
                yield pa.RecordBatch.from_arrays([pa.array([image], _IMAGE)], ["image"])
        if errors:
            logging.getLogger("sparkdl").warning(
                "%d pictures could not be decoded; first: %s", len(errors), errors[0]
            )

    return run


def _session(spark: SparkSession | None) -> SparkSession:
    """The given session, else the active one, else a new one; classic or Connect."""
    return spark or SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()


def _spread(files: DataFrame, partitions: int | None) -> DataFrame:
    """None, as the original's callers may pass, is 0: as Spark has it."""
    partitions = partitions or 0
    _require(partitions >= 0, f"numPartitions must be at least 0 but was {partitions}.")
    return files.repartition(partitions) if partitions else files


def _require(met: bool, message: str) -> None:
    if not met:
        raise SparkDLValueError(message)
