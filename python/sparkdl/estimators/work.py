"""The working folder of estimators: any URI that Spark writes, or a temporary folder in local mode."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import tempfile
import weakref
from pathlib import Path
from weakref import WeakKeyDictionary

from pyspark.ml.util import ML_CONNECT_HELPER_ID
from pyspark.ml.wrapper import JavaWrapper
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkdl import _shipping
from sparkdl.exceptions import SparkDLValueError

_temporary: WeakKeyDictionary[SparkSession, str] = WeakKeyDictionary()


def is_local(spark: SparkSession) -> bool:
    """Whether driver and tasks are on one machine."""
    master = spark.conf.get("spark.master", None) or ""
    return re.fullmatch(r"local(\[.*\])?", master) is not None


def folder(spark: SparkSession, asked: str | None) -> str:
    """The folder that was asked for, or one of this session's own that goes with this process."""
    if asked is not None:
        return asked.rstrip("/")
    if not is_local(spark):
        raise SparkDLValueError(
            "This session's tasks run on other machines, so workDir is needed: set it to a folder that all "
            "of them and the driver reach, as hdfs:/tmp/trials or s3a://bucket/trials."
        )
    if spark not in _temporary:
        made = tempfile.mkdtemp(prefix="sparkdl-estimators-")
        weakref.finalize(spark, shutil.rmtree, made, ignore_errors=True)
        _temporary[spark] = f"file:{made}"
    return _temporary[spark]


def slots(spark: SparkSession) -> int:
    """How many tasks run at a time."""
    cores = int(spark.conf.get("spark.task.cpus", None) or 1)
    if not _shipping.is_connect(spark):
        return max(1, spark.sparkContext.defaultParallelism // cores)
    parts = spark.range(1 << 20).select(F.spark_partition_id().alias("part")).distinct().count()
    return max(1, parts // cores)


def tag(spark: SparkSession, name: str) -> None:
    """Marks the jobs that this thread starts."""
    if _shipping.is_connect(spark):
        spark.addTag(name)
    else:
        # Not the session's tags: with the first of them a session is serializable no more, and with it
        # MLlib's models of two classes, whose summaries hold it (Spark 4.1).
        spark.sparkContext.addJobTag(name)


def stop(spark: SparkSession, name: str) -> None:
    """Stops the jobs that are marked so."""
    if _shipping.is_connect(spark):
        spark.interruptTag(name)
    else:
        spark.sparkContext.cancelJobsWithTag(name)


def driver_host(spark: SparkSession) -> str:
    """The name under which tasks reach this process."""
    if is_local(spark):
        return "127.0.0.1"
    host = None if _shipping.is_connect(spark) else spark.conf.get("spark.driver.host", None)
    return host or socket.gethostname()


def delete(spark: SparkSession, place: str) -> None:
    """Removes a folder as well as it can be done; what stays is never read again."""
    with contextlib.suppress(Exception):
        if place.startswith("file:") and is_local(spark):
            shutil.rmtree(Path(re.sub("^file:/*", "/", place)))
        elif _shipping.is_connect(spark):
            JavaWrapper(java_obj=ML_CONNECT_HELPER_ID)._call_java("handleOverwrite", place, True)
        else:
            overwrite = JavaWrapper._new_java_obj("org.apache.spark.ml.util.FileSystemOverwrite")
            JavaWrapper(overwrite)._call_java("handleOverwrite", place, True, spark._jsparkSession)
