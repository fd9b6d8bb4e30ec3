"""The main job: labelled pictures, features of a pre-trained network, a logistic regression on them.

Reads the pictures, splits them, fits `DeepImageFeaturizer` and `LogisticRegression` in one pipeline,
evaluates it beside a baseline that sees colours only, saves and reloads it, asks `DeepImagePredictor`
what is in the pictures, and leaves a report to look at. Run it by `make demo`, or in a Python with
`sparkdl` and TensorFlow:

python demo.py --pictures FOLDER --weights mobilenet.keras --model MobileNet
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from demo_inputs import Network, Pictures, find_network, find_pictures
from demo_report import Figures, Picture, write_report
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import StringIndexer
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from sparkdl import DeepImageFeaturizer, DeepImagePredictor, PipelineLoader
from sparkdl.image import imageIO

ROOT = Path(__file__).resolve().parents[2]
PER_CLASS = 120  # pictures of a class in the sample set, at most
PARTITIONS = 4  # of the sample and its shuffles: few, since the sample is small
BINS = 4  # of each colour, in the baseline's histogram


def main() -> None:
    arguments = parse_arguments()
    started = time.monotonic()
    pictures = find_pictures(arguments.pictures, arguments.cache)
    network = find_network(arguments.weights, arguments.model, arguments.cache / "bundles")
    print(f"Pictures: {pictures.what}. Weights: {network.what}.")

    spark = start_spark()
    train, test = sample(spark, pictures)
    figures = Figures(pictures=pictures.what, network=network.what, train=train.count(), test=test.count())
    print(f"{figures.train} pictures to train on, {figures.test} others to test on")

    fitted = pipeline(network).fit(train)
    predicted = fitted.transform(test).cache()
    figures.accuracy = accuracy(predicted)
    figures.baseline = colour_baseline(train, test)
    figures.classes, figures.confusion = confusion(predicted, fitted.stages[0].labels)
    print_confusion(figures.classes, figures.confusion)
    print(f"accuracy {figures.accuracy:.3f}, colour histograms {figures.baseline:.3f}")

    folder = str(arguments.report.parent.resolve() / "pipeline")
    fitted.write().overwrite().save(folder)
    assert_equal(predicted, PipelineLoader.load(folder).transform(test))
    print(f"saved the pipeline in {folder}; reloaded, it predicts the same")

    seen = classify(predicted, network, figures.classes)
    figures.seconds = time.monotonic() - started
    write_report(arguments.report, figures, seen)
    print(f"report: {arguments.report} ({figures.seconds:.0f} s in all)")
    spark.stop()
    if figures.accuracy <= figures.baseline:
        raise SystemExit("The network's features do no better than colour histograms.")


def parse_arguments() -> argparse.Namespace:
    def setting(name: str) -> str | None:
        return os.environ.get(name) or None

    cache_home = Path(setting("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(setting("SPARKDL_CACHE_DIR") or cache_home / "spark-deep-learning")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--pictures", default=setting("FLOWERS"), help="a folder per class in it [FLOWERS]")
    parser.add_argument("--weights", default=setting("WEIGHTS"), help="Keras file or bundle [WEIGHTS]")
    parser.add_argument(
        "--model", default=setting("MODEL") or "MobileNetV2", help="the weights' model [MODEL]"
    )
    parser.add_argument("--report", type=Path, default=ROOT / "demo" / "report.html")
    parser.add_argument("--cache", type=Path, default=cache, help="where what is fetched or drawn is kept")
    return parser.parse_args()


def start_spark() -> SparkSession:
    """A local session, with the jar where it was built: the stages then run in the JVM."""
    jars = sorted((ROOT / "dist").glob("spark-deep-learning_*.jar"))
    builder = SparkSession.builder.appName("spark-deep-learning demo").master("local[*]")
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.shuffle.partitions", str(PARTITIONS))
    if jars:
        builder = builder.config("spark.jars", str(jars[0]))
    else:
        print("No jar in dist/: the stages run in Spark's Python workers.")
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def sample(spark: SparkSession, pictures: Pictures) -> tuple[DataFrame, DataFrame]:
    """At most PER_CLASS pictures of each class, in the order of a hash of their names; 3 in 10 are for
    testing.
    """
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(str(pictures.folder))
    files = files.filter("lower(path) rlike '[.](jpe?g|png|gif|bmp|webp|tiff?)$'")
    name = F.regexp_extract("path", "([^/]+/[^/]+)$", 1)
    by_hash = Window.partitionBy("class").orderBy(F.sha2(name, 256))
    chosen = (
        files.select("path", F.regexp_extract("path", "([^/]+)/[^/]+$", 1).alias("class"), name.alias("name"))
        .withColumn("position", F.row_number().over(by_hash))
        .filter(F.col("position") <= PER_CLASS)
    )
    labelled = files.select("path", "content").join(F.broadcast(chosen), "path").coalesce(PARTITIONS).cache()
    for_testing = F.col("position") % 10 < 3
    return labelled.filter(~for_testing), labelled.filter(for_testing)


def pipeline(network: Network) -> Pipeline:
    indexer = StringIndexer(inputCol="class", outputCol="label", stringOrderType="alphabetAsc")
    featurizer = DeepImageFeaturizer(
        inputCol="content",
        outputCol="features",
        modelName=network.modelName,
        weights=network.weights,
        handleInvalid="skip",
    )
    return Pipeline(stages=[indexer, featurizer, LogisticRegression(maxIter=40, regParam=0.05)])


def accuracy(predicted: DataFrame) -> float:
    return float(MulticlassClassificationEvaluator(metricName="accuracy").evaluate(predicted))


def colour_baseline(train: DataFrame, test: DataFrame) -> float:
    """The better accuracy of two logistic regressions that see which colours a picture has, and nothing
    else.
    """
    indexer = StringIndexer(inputCol="class", outputCol="label", stringOrderType="alphabetAsc").fit(train)
    train, test = (
        indexer.transform(part).withColumn("features", colours()).cache() for part in (train, test)
    )
    return max(
        accuracy(LogisticRegression(maxIter=30, regParam=strength).fit(train).transform(test))
        for strength in (0.002, 0.02)
    )


def colours() -> Any:
    """A column of histograms of BINS x BINS x BINS colours, as square roots of shares."""

    def histogram(content: bytes) -> list[float]:
        pixels = imageIO.PIL_decode(content)[..., :3]  # grey has one channel
        levels = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).reshape(-1, 3).astype(np.int64)
        counts = np.bincount(levels * BINS // 256 @ [1, BINS, BINS * BINS], minlength=BINS**3)
        return [float(root) for root in np.sqrt(counts / len(levels))]

    return array_to_vector(F.udf(histogram, "array<double>")("content"))


def confusion(predicted: DataFrame, labels: list[str]) -> tuple[list[str], list[list[int]]]:
    """Counts, true class by predicted class."""
    counts = predicted.groupBy("label", "prediction").count().collect()
    table = [[0] * len(labels) for _ in labels]
    for row in counts:
        table[int(row["label"])][int(row["prediction"])] = row["count"]
    return labels, table


def print_confusion(classes: list[str], table: list[list[int]]) -> None:
    width = max(len(name) for name in classes) + 2
    first = max(width, 17)
    print("true \\ predicted".ljust(first) + "".join(name.rjust(width) for name in classes))
    for name, row in zip(classes, table, strict=True):
        print(name.ljust(first) + "".join(str(count).rjust(width) for count in row))


def assert_equal(predicted: DataFrame, reloaded: DataFrame) -> None:
    first, second = (
        {row["path"]: (row["prediction"], row["probability"]) for row in part.collect()}
        for part in (frame.select("path", "prediction", "probability") for frame in (predicted, reloaded))
    )
    assert first == second, "the reloaded pipeline predicts something else"


def classify(predicted: DataFrame, network: Network, classes: list[str]) -> list[Picture]:
    """Each test picture with what the pipeline says, and what the network itself takes it for."""
    predictor = DeepImagePredictor(
        inputCol="content",
        outputCol="seen",
        modelName=network.modelName,
        weights=network.weights,
        decodePredictions=True,
        topK=1,
    )
    columns = ["content", "name", "class", "prediction", "probability"]
    rows = predictor.transform(predicted.select(*columns)).collect()
    pictures = [
        Picture(
            content=bytes(row["content"]),
            name=row["name"],
            true=row["class"],
            predicted=classes[int(row["prediction"])],
            score=float(max(row["probability"])),
            network_says=row["seen"][0]["description"] if row["seen"] else "",
            network_score=float(row["seen"][0]["probability"]) if row["seen"] else 0.0,
        )
        for row in rows
    ]
    for picture in sorted(pictures, key=lambda picture: picture.name)[:: max(1, len(pictures) // 5)]:
        print(f"  {picture.name}: the network says {picture.network_says} ({picture.network_score:.2f})")
    return pictures


if __name__ == "__main__":
    main()
