"""One way through a Keras stage, or what is written instead of it, in its own process; prints a line."""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rivals
import way
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

WIDTHS = {"rows": 10, "files": 1000}


def rows(spark: SparkSession, settings: dict[str, Any]) -> tuple[DataFrame, str]:
    folder = Path(settings["folder"])
    return spark.read.parquet(str(folder / "rows.parquet")).repartition(4), str(folder / "dense.keras")


def files(spark: SparkSession, settings: dict[str, Any]) -> tuple[DataFrame, str]:
    folder = Path(settings["files"])
    found = [(str(path),) for path in sorted((folder / "files").iterdir())]
    return spark.createDataFrame(found, "uri string").repartition(4), str(folder / "network.keras")


def ours(frame: DataFrame, model: str, settings: dict[str, Any]) -> DataFrame:
    """On the JVM path where the jar is attached."""
    from sparkdl import KerasImageFileTransformer, KerasTransformer

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


@functools.cache
def predictor(model: str, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    opened = rivals.keras_model(model, 0)
    return functools.partial(opened.predict, batch_size=batch, verbose=0)


def rival(frame: DataFrame, model: str, settings: dict[str, Any]) -> DataFrame:
    batch = settings["batch"]
    if settings["task"] == "rows":
        make = functools.partial(predictor, model, batch)
        score = predict_batch_udf(
            make, return_type=ArrayType(FloatType()), batch_size=batch, input_tensor_shapes=[[1000]]
        )
        return frame.select(score("numbers").alias("scores"))

    @F.pandas_udf("array<float>")
    def scores(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        predict = predictor(model, batch)
        for uris in batches:
            yield pd.Series(list(predict(np.stack([rivals.pillow(Path(uri).read_bytes()) for uri in uris]))))

    return frame.select(scores("uri").alias("scores"))


def main() -> None:
    settings = json.loads(sys.argv[1])
    spark = way.session(settings)
    frame, model = {"rows": rows, "files": files}[settings["task"]](spark, settings)
    frame = frame.cache()
    count = frame.count()
    scored = (rival if settings["way"] == "rival" else ours)(frame, model, settings)
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
