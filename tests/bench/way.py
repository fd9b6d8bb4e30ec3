"""One way from encoded bytes in Parquet to a column of scores, in its own process; prints one line of JSON.

`python way.py '{"way": …, "folder": …, "model": …, "threads": …, "batch": …, "passes": …, "jar": …}'`
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def session(settings: dict[str, Any]) -> SparkSession:
    builder = SparkSession.builder.master("local[2]").appName(settings["way"])
    builder = builder.config("spark.ui.enabled", "false").config("spark.driver.memory", "2g")
    builder = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true")
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", max(64, settings["batch"]))
    if settings["way"] in ("jvm", "sql"):
        builder = builder.config("spark.jars", settings["jar"])
    if settings["way"] == "sql":
        builder = builder.config("spark.driver.extraClassPath", settings["jar"])
    return builder.getOrCreate()


def python_path(spark: SparkSession, photos: DataFrame, settings: dict[str, Any]) -> DataFrame:
    """Our stage without the jar."""
    from sparkdl import DeepImagePredictor

    stage = DeepImagePredictor(
        inputCol="content", outputCol="scores", modelName=settings["model"], outputMode="array"
    )
    scored = stage.setBatchSize(settings["batch"]).transform(photos)
    return scored.select("scores")


def jvm_path(spark: SparkSession, photos: DataFrame, settings: dict[str, Any]) -> DataFrame:
    """Our Scala stage, called from here; no Python worker takes part."""
    assert spark._jvm is not None
    stage = spark._jvm.sparkdl.DeepImagePredictor()
    stage.setInputCol("content").setOutputCol("scores").setModelName(settings["model"]).setOutputMode("array")
    stage.setBatchSize(settings["batch"])
    scored = DataFrame(stage.transform(photos._jdf), spark)
    return scored.select("scores")


def sql_function(spark: SparkSession, photos: DataFrame, settings: dict[str, Any]) -> DataFrame:
    """The function of SQL that comes with the jar."""
    options = f"map('batchSize', '{settings['batch']}')"
    return photos.selectExpr(f"dl_predict('{settings['model']}', content, {options}) AS scores")


def rival(spark: SparkSession, photos: DataFrame, settings: dict[str, Any]) -> DataFrame:
    import rivals

    way = {"keras": rivals.keras_predict, "onnx": rivals.onnx_runtime}[settings["way"]]
    return way(photos, settings["model"], settings["threads"], settings["batch"])


WAYS = {"python": python_path, "jvm": jvm_path, "sql": sql_function, "keras": rival, "onnx": rival}


def check(scored: DataFrame) -> None:
    """Scores of a few rows: probabilities that differ from picture to picture, or the way is wrong."""
    rows = np.array([row["scores"] for row in scored.limit(4).collect()])
    if not np.allclose(rows.sum(axis=1), 1, atol=1e-3) or np.ptp(rows, axis=0).max() < 1e-3:
        raise ValueError("the scores are not those of four different pictures")


def main() -> None:
    settings = json.loads(sys.argv[1])
    spark = session(settings)
    photos = spark.read.parquet(str(Path(settings["folder"]) / "parquet"))
    count = photos.count()
    scored = WAYS[settings["way"]](spark, photos, settings)
    seconds = []
    for _ in range(settings["passes"]):
        started = time.perf_counter()
        done = scored.agg(F.sum(F.size("scores"))).first()
        seconds.append(time.perf_counter() - started)
        if done is None or done[0] != 1000 * count:
            raise ValueError(f"{count} pictures went in, and {done} came out")
    check(scored)
    print("RESULT " + json.dumps({"pictures": count, "seconds": seconds}))


if __name__ == "__main__":
    main()
