"""The rows that trials train on, as Parquet in the working folder: written by tasks, never by the driver.

Of pictures the folder holds two kinds: `pictures/` with each picture once, decoded and resized, by the digest
of its content, and rows that name pictures by it. Rows of numbers hold them themselves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkdl import _engine, _loading
from sparkdl._batches import with_condition
from sparkdl._files import Files
from sparkdl.estimators import dense, pixels
from sparkdl.exceptions import SparkDLError

_ROWS = "key string, uri string, reason string, row bigint, label {label}, weight double"
_PICTURES = "key string, pixels binary, reason string"
_ROW_GROUP = 8 << 20
_PICTURES_A_TASK = 1000
_FILES_AT_ONCE = 32
_numbers: dict[int, list[int]] = {}
"""By the count of partitions."""


@dataclass(frozen=True)
class Pictures:
    """How files become pictures."""

    loader: _loading.Loaded | None
    """A function of the caller's, instead of reading and decoding."""
    loader_name: str
    options: tuple[tuple[str, str], ...]
    """Of the native decoder: size, filter and the like."""
    shape: tuple[int, int, int]
    order: str
    threads: int

    def digest(self) -> str:
        """What a decoded picture depends on besides its file."""
        options = self.loader_name if self.loader is not None else dict(self.options)
        said = json.dumps([1, options, self.shape, self.order], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def dtype(self) -> str:
        """Of a sample: levels, or what the caller's function gives."""
        return "uint8" if self.loader is None else "float32"


@dataclass(frozen=True)
class Selected:
    """Rows ready to train on."""

    rows: DataFrame
    """`key, row, label, weight, x0, …`, usable ones alone."""
    count: int
    digest: str
    """Of what is in them."""
    folder: str
    """What of the working folder is of no use when the search is over."""
    invalid: int
    reason: str
    """Of the first that is invalid."""


def keys(pictures: Pictures, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of uri, label and weight to rows by the digest of the file's content."""
    return with_condition(_keys(pictures, batches))


def _keys(pictures: Pictures, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    row = first_row()
    for piece in Files(0).pieces(batches, _FILES_AT_ONCE):
        uris, reasons = piece.rows.column(0).to_pylist(), list(piece.reasons or [])
        found = list[str | None]()
        for index, file in enumerate(piece.inputs[0]):
            content = file.as_buffer() if file.is_valid else b""
            # A function of the caller's may make of a name what no file is.
            if pictures.loader is not None and uris[index] is not None:
                reasons[index] = None
                content = json.dumps([uris[index], hashlib.sha256(content).hexdigest()]).encode()
            found.append(None if reasons[index] else hashlib.sha256(content).hexdigest())
        named = [f"{uri}: {why}" if why else None for uri, why in zip(uris, reasons, strict=True)]
        count = len(uris)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(found, pa.string()),
                piece.rows.column(0),
                pa.array(named, pa.string()),
                pa.array(range(row, row + count), pa.int64()),
                *piece.rows.columns[1:],
            ],
            ["key", "uri", "reason", "row", "label", "weight"],
        )
        row += count


def decoded(pictures: Pictures, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of uri and key to pictures."""
    return with_condition(_decoded(pictures, batches))


def _decoded(pictures: Pictures, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    source = replace(pictures.loader, column=0) if pictures.loader is not None else Files(0)
    for piece in source.pieces(batches, _FILES_AT_ONCE):
        reasons = list(piece.reasons or [])
        if pictures.loader is not None:
            found = pixels.loaded(piece.inputs[0])
        else:
            threads = str(_engine.threads(pictures.threads))
            one = pa.RecordBatch.from_arrays([piece.inputs[0]], ["picture"])
            images, errors = _engine.decode_images(one, [*pictures.options, ("threads", threads)]).columns
            reasons = [known or why for known, why in zip(reasons, errors.to_pylist(), strict=True)]
            found = pixels.packed(images, pictures.shape[2], pictures.order)
        uris = piece.rows.column(0).to_pylist()
        named = [f"{uri}: {why}" if why else None for uri, why in zip(uris, reasons, strict=True)]
        yield pa.RecordBatch.from_arrays(
            [piece.rows.column(1), pa.array(found, pa.binary()), pa.array(named, pa.string())],
            ["key", "pixels", "reason"],
        )


def numbers(
    shapes: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Batches of label, weight and the inputs to rows with the inputs' bytes."""
    row = first_row()
    for batch in batches:
        inputs = list[list[bytes | None]]()
        reasons: list[str | None] = [None] * batch.num_rows
        for column, shape, dtype in zip(batch.columns[2:], shapes, dtypes, strict=True):
            found, why = dense.rows(column, shape, dtype)
            inputs.append(found)
            reasons = [known or new for known, new in zip(reasons, why, strict=True)]
        digests = [
            None if why else hashlib.sha256(b"".join(filter(None, parts))).hexdigest()
            for why, *parts in zip(reasons, *inputs, strict=True)
        ]
        count = batch.num_rows
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(digests, pa.string()),
                pa.nulls(count, pa.string()),
                pa.array(reasons, pa.string()),
                pa.array(range(row, row + count), pa.int64()),
                *batch.columns[:2],
                *(pa.array(found, pa.binary()) for found in inputs),
            ],
            ["key", "uri", "reason", "row", "label", "weight", *(f"x{n}" for n in range(len(inputs)))],
        )
        row += count


def first_row() -> int:
    """A number for the first row of this partition, such that no two rows have the same."""
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    return int(context.partitionId()) << 40


def select_pictures(
    dataset: DataFrame, pictures: Pictures, folder: str, slots: int, label_type: str
) -> Selected:
    """The rows of `dataset` (uri, label, weight) with their pictures; decodes those that are not there."""
    spark, place = dataset.sparkSession, f"{folder}/pictures/{pictures.digest()}"
    own = f"{folder}/rows/{uuid.uuid4().hex}"
    rows = _written(dataset.mapInArrow(partial(keys, pictures), _ROWS.format(label=label_type)), own, {})
    usable = rows.where("reason is null and label is not null and weight is not null")
    wanted = usable.groupBy("key").agg(F.min("uri").alias("uri"))
    make_folder(spark, place, _PICTURES)
    missing = wanted.join(_pictures(spark, place).select("key"), "key", "left_anti")
    if count := missing.count():
        spread = missing.select("uri", "key").repartition(max(slots, math.ceil(count / _PICTURES_A_TASK)))
        rows_a_group = max(1, _ROW_GROUP // (math.prod(pictures.shape) * np.dtype(pictures.dtype).itemsize))
        _written(
            spread.mapInArrow(partial(decoded, pictures), _PICTURES),
            f"{place}/{uuid.uuid4().hex}",
            _row_groups(rows_a_group),
        )
        logging.getLogger("sparkdl").info("%d pictures were decoded into %s.", count, place)
    found = _pictures(spark, place)
    reasons = found.groupBy("key").agg(F.first("reason").alias("why"))
    checked = rows.join(reasons, "key", "left").withColumn("reason", F.coalesce("reason", "why")).drop("why")
    joined = rows.where("reason is null").join(found.where("reason is null").drop("reason"), "key")
    return _selected(checked, joined.withColumnRenamed("pixels", "x0"), own)


def select_numbers(
    dataset: DataFrame,
    shapes: tuple[tuple[int, ...], ...],
    dtypes: tuple[str, ...],
    folder: str,
    label_type: str,
) -> Selected:
    """The rows of `dataset` (label, weight, inputs) with the inputs' bytes."""
    own = f"{folder}/rows/{uuid.uuid4().hex}"
    columns = "".join(f", x{n} binary" for n in range(len(shapes)))
    each = zip(shapes, dtypes, strict=True)
    size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in each)
    rows = _written(
        dataset.mapInArrow(partial(numbers, shapes, dtypes), _ROWS.format(label=label_type) + columns),
        own,
        _row_groups(max(1, _ROW_GROUP // max(1, size))),
    )
    return _selected(rows, rows.where("reason is null"), own)


def _selected(checked: DataFrame, joined: DataFrame, folder: str) -> Selected:
    why = F.coalesce(
        F.col("reason"),
        F.when(F.col("label").isNull(), F.concat(F.coalesce("uri", F.lit("a row")), F.lit(": no label"))),
        F.when(
            F.col("weight").isNull() | F.isnan("weight") | (F.col("weight") < 0),
            F.concat(F.coalesce("uri", F.lit("a row")), F.lit(": its weight is no number from 0 on")),
        ),
    )
    hashed = F.xxhash64("key", "label", "weight").cast("decimal(38,0)")
    said = checked.withColumn("why", why).agg(
        F.count(F.when(F.col("why").isNull(), 1)).alias("count"),
        F.count("why").alias("invalid"),
        F.min("why").alias("reason"),
        F.sum(F.when(F.col("why").isNull(), hashed)).alias("sum"),
    )
    row = said.first()
    assert row is not None
    usable = joined.where("label is not null and weight is not null and weight >= 0 and not isnan(weight)")
    return Selected(
        rows=usable.drop("uri", "reason"),
        count=row["count"],
        digest=f"{row['count']}/{row['sum']}",
        folder=folder,
        invalid=row["invalid"],
        reason=row["reason"] or "",
    )


def for_tasks(rows: DataFrame, count: int) -> DataFrame:
    """The rows in one partition, or all of them in each of several."""
    if count == 1:
        return rows.coalesce(1)
    numbers = F.array(*[F.lit(number).cast("bigint") for number in _one_for_each(rows.sparkSession, count)])
    copies = rows.withColumn("task", F.explode(numbers))
    return copies.repartition(count, "task").drop("task")


def _one_for_each(spark: SparkSession, count: int) -> list[int]:
    """Numbers that hash partitioning, with Spark's hash, sends to a partition each."""
    if count not in _numbers:
        hashed = spark.range(100 * count).selectExpr("id", f"pmod(hash(id), {count}) as part")
        _numbers[count] = [row["id"] for row in hashed.groupBy("part").agg(F.min("id").alias("id")).collect()]
    return _numbers[count]


def check(selected: Selected, handle_invalid: str) -> None:
    """Says how many rows are left out; refuses them with `handleInvalid="error"`, and no rows at all."""
    if selected.invalid and handle_invalid == "error":
        raise SparkDLError(
            f"{selected.invalid} of {selected.invalid + selected.count} rows cannot be trained on, as "
            f'{selected.reason}. Set handleInvalid to "skip" to go on without them.',
            "InvalidRow",
        )
    if not selected.count:
        raise SparkDLError(
            "There are no rows to train on"
            + (f": {selected.invalid} cannot be used, as {selected.reason}." if selected.invalid else "."),
            "InvalidRow",
        )
    if selected.invalid:
        logging.getLogger("sparkdl").warning(
            "%d of %d rows cannot be trained on and are left out, as %s.",
            selected.invalid,
            selected.invalid + selected.count,
            selected.reason,
        )


def _written(rows: DataFrame, place: str, options: dict[str, str]) -> DataFrame:
    rows.write.options(**options).parquet(place)
    return rows.sparkSession.read.schema(rows.schema).parquet(place)


def _row_groups(rows: int) -> dict[str, str]:
    """A row group is held in memory as a whole, by who writes and by who reads."""
    return {"parquet.block.row.count.limit": str(rows), "compression": "uncompressed"}


def _pictures(spark: SparkSession, place: str) -> DataFrame:
    """Those that are there. Each fit adds a folder, so that fits at the same time do not meet."""
    return spark.read.schema(_PICTURES).option("recursiveFileLookup", "true").parquet(place)


def make_folder(spark: SparkSession, place: str, schema: str) -> None:
    """A folder of no rows where there is none: looking for what is not there makes Spark complain."""
    spark.createDataFrame([], schema).write.mode("ignore").parquet(place)
