"""One way through such a stage, or what is written instead of it, in its own process; prints a line."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import rivals
import way
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

WIDTHS = {"rows": 10, "files": 1000, "graph": 1000}
TIMES = 50
"""How often the rows go through the graph: a million in all, more than is held in memory."""


def rows(spark: SparkSession, settings: dict[str, Any]) -> tuple[DataFrame, str]:
    folder = Path(settings["folder"])
    return spark.read.parquet(str(folder / "rows.parquet")).repartition(4), str(folder / "dense.keras")


def graph(spark: SparkSession, settings: dict[str, Any]) -> tuple[DataFrame, str]:
    frame, _ = rows(spark, settings)
    many = frame.cache().crossJoin(F.broadcast(spark.range(TIMES).withColumnRenamed("id", "time")))
    return many.select("numbers"), str(Path(settings["folder"]) / "layer.keras")


def files(spark: SparkSession, settings: dict[str, Any]) -> tuple[DataFrame, str]:
    folder = Path(settings["files"])
    found = [(str(path),) for path in sorted((folder / "files").iterdir())]
    return spark.createDataFrame(found, "uri string").repartition(4), str(folder / "network.keras")


def ours(frame: DataFrame, model: str, settings: dict[str, Any]) -> DataFrame:
    """On the JVM path where the jar is attached."""
    from sparkdl import KerasImageFileTransformer, KerasTransformer, TFInputGraph, TFTransformer

    if settings["task"] == "graph":
        read = TFInputGraph.fromSavedModelWithSignature(model.removesuffix(".keras"))
        (taken,), (given,) = read.inputs, read.outputs
        mappings = {"inputMapping": {"numbers": taken.name}, "outputMapping": {given.name: "scores"}}
        return TFTransformer(tfInputGraph=read, batchSize=settings["batch"], **mappings).transform(frame)
    if settings["task"] == "rows":
        stage = KerasTransformer(inputCol="numbers", outputCol="scores", modelFile=model)
        return stage.setBatchSize(settings["batch"]).transform(frame)
    return KerasImageFileTransformer(
        inputCol="uri",
        outputCol="scores",
        modelFile=model,
        preprocessing="tf",
        outputMode="array",
        batchSize=settings["batch"],
    ).transform(frame)


def sql_function(frame: DataFrame, model: str, settings: dict[str, Any]) -> DataFrame:
    """The function of SQL that comes with the jar."""
    return frame.selectExpr(f"dl_run('{model}', numbers, map('batchSize', '{settings['batch']}')) AS scores")


def rival(frame: DataFrame, model: str, settings: dict[str, Any]) -> DataFrame:
    way = rivals.keras_files if settings["task"] == "files" else rivals.keras_rows
    return way(frame, model, settings["batch"])


def main() -> None:
    settings = json.loads(sys.argv[1])
    spark = way.session(settings)
    frame, model = {"rows": rows, "files": files, "graph": graph}[settings["task"]](spark, settings)
    if settings["task"] != "graph":
        frame = frame.cache()
    count = frame.count()
    scored = {"rival": rival, "sql": sql_function}.get(settings["way"], ours)(frame, model, settings)
    seconds = []
    for _ in range(settings["passes"]):
        started = time.perf_counter()
        done = scored.agg(F.sum(F.size("scores"))).first()
        seconds.append(time.perf_counter() - started)
        if done is None or done[0] != WIDTHS[settings["task"]] * count:
            raise ValueError(f"{count} rows went in, and {done} came out")
    print("RESULT " + json.dumps({"rows": count, "seconds": seconds}))


if __name__ == "__main__":
    main()
