"""Saved stages, as `rust/ARCHITECTURE.md` lays them out, and saved pipelines of either language."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.util import ML_CONNECT_HELPER_ID, DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter
from pyspark.ml.wrapper import JavaWrapper
from pyspark.sql import SparkSession

from sparkdl import _cache, _shipping
from sparkdl.exceptions import SparkDLValueError

if TYPE_CHECKING:
    from sparkdl.transformers.model_stage import ModelStage

_CHUNK = 8 << 20


@dataclass(frozen=True)
class Pin:
    """A bundle by digest, and the values of the params of the model that stand for it."""

    digest: str
    values: tuple[Any, ...]


class StageWriter(MLWriter):
    """Saves a stage: its bundle, where it needs one, then its metadata as `DefaultParamsWriter` does."""

    def __init__(self, stage: ModelStage) -> None:
        super().__init__()
        self._stage = stage

    def saveImpl(self, path: str) -> None:
        """Writes the stage's folder, on any file system that Spark writes."""
        spark = self.sparkSession
        values, bundle = self._stage._to_save(spark)
        extra = None
        if bundle is not None:
            _write_bundle(spark, bundle.file, bundle.digest, os.path.join(path, "bundle"))
            extra = {"bundle": bundle.digest}
        DefaultParamsWriter.saveMetadata(self._stage, path, spark, extraMetadata=extra, paramMap=values)

    def _handleOverwrite(self, path: str) -> None:
        if _shipping.is_connect(self.sparkSession):
            # Spark's own way needs a JVM in this process; its Connect server has this helper.
            JavaWrapper(java_obj=ML_CONNECT_HELPER_ID)._call_java("handleOverwrite", path, True)
        else:
            super()._handleOverwrite(path)


class StageReader(MLReader[Any]):
    """Loads what `StageWriter` or the Scala stage of the same name saved."""

    def __init__(self, stage_class: type[ModelStage]) -> None:
        super().__init__()
        self._stage_class = stage_class

    def load(self, path: str) -> Any:
        """The stage, with the bundle it was saved with."""
        spark = self.sparkSession
        metadata = DefaultParamsReader.loadMetadata(path, spark)
        expected = f"{self._stage_class.__module__}.{self._stage_class.__name__}"
        if metadata["class"] != expected:
            raise SparkDLValueError(f"{path} holds a {metadata['class']}, not a {expected}.")
        stage = self._stage_class._on_jvm(path, metadata["paramMap"])
        if stage is None:
            stage = self._stage_class()
            stage._resetUid(metadata["uid"])
            DefaultParamsReader.getAndSetParams(stage, metadata)
            if digest := metadata.get("bundle"):
                _read_bundle(spark, digest, os.path.join(path, "bundle"))
                stage._pin = Pin(digest, stage._model_values())
        return stage


class PipelineLoader:
    """Opens saved pipelines, whichever language and session wrote them."""

    @staticmethod
    def load(path: str) -> Any:
        """Opens a saved `Pipeline`, `PipelineModel` or stage: what Scala saved, and what PySpark did."""
        metadata = DefaultParamsReader.loadMetadata(path, SparkSession.active())
        name = metadata["class"].rsplit(".", 1)[-1]
        if metadata["class"].startswith(("pyspark.ml.", "org.apache.spark.ml.")) and name in _PIPELINES:
            return _PIPELINES[name].load(path)
        return DefaultParamsReader.loadParamsInstance(path, SparkSession.active())


_PIPELINES: dict[str, Any] = {"Pipeline": Pipeline, "PipelineModel": PipelineModel}


def _write_bundle(spark: SparkSession, file: Path, digest: str, path: str, suffix: str = ".sparkdl") -> None:
    """Writes a bundle as rows of Parquet, in a task: so it passes through no message of any size."""
    name = _shipping.ship(spark, file, digest, suffix)
    rows = spark.range(0, 1, 1, 1).mapInArrow(partial(_chunks, name), "chunk int, bytes binary")
    # A row group is held in memory as a whole, by who writes and by who reads.
    options = {"parquet.block.row.count.limit": "8", "compression": "uncompressed"}
    rows.write.options(**options).parquet(path)


def _chunks(name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from pyspark import SparkFiles

    for _ in batches:
        with open(SparkFiles.get(name), "rb") as bundle:
            chunk = 0
            while data := bundle.read(_CHUNK):
                row = [pa.array([chunk], pa.int32()), pa.array([data], pa.binary())]
                yield pa.record_batch(row, ["chunk", "bytes"])
                chunk += 1


def _read_bundle(spark: SparkSession, digest: str, path: str, suffix: str = ".sparkdl") -> Path:
    """Brings a saved bundle into the cache folder, unless it is there; gives its place."""
    file = _shipping.kept_file(spark, digest, suffix)
    if file.exists():
        return file
    _cache.made(file.parent)
    read = hashlib.sha256()
    with _cache.appearing(file) as target:
        for row in spark.read.parquet(path).orderBy("chunk").select("bytes").toLocalIterator():
            target.write(row["bytes"])
            read.update(row["bytes"])
        found = read.hexdigest()
        if found != digest:
            raise SparkDLValueError(
                f"The bundle saved under {path} is damaged: its SHA-256 is {found} "
                f"but its metadata says {digest}. Save the stage again.",
                "InvalidModel",
            )
    return file
