"""`flowers.scala` once more, by PySpark without the jar: the same splits, features and predictions."""

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import vector_to_array
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

from sparkdl import DeepImageFeaturizer

spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()

photos = (
    spark.read.format("binaryFile")
    .load("flowers/*/*.jpg")
    .select(
        F.regexp_extract("path", "([^/]+/[^/]+)$", 1).alias("name"),
        F.regexp_extract("path", "([^/]+)/[^/]+$", 1).alias("class"),
        "content",
    )
    .withColumn("label", (F.dense_rank().over(Window.orderBy("class")) - 1).cast("double"))
    .repartition(4, "name")
    .cache()
)

featurizer = DeepImageFeaturizer(inputCol="content", outputCol="features", modelName="mobilenet.sparkdl")
features = featurizer.transform(photos).select(
    "name", vector_to_array("features", "float32").alias("features")
)
features.write.parquet("python-features")

for split in range(5):
    of_class = Window.partitionBy("class")
    by_hash = of_class.orderBy(F.sha2(F.concat_ws("/", F.lit(split), "name"), 256))
    divided = (
        photos.withColumn("position", F.row_number().over(by_hash))
        .withColumn("tested", F.col("position") <= F.round(F.count("*").over(of_class) * 0.3))
        .repartition(4, "name")
        .sortWithinPartitions("name")
        .cache()
    )
    # The objective of scikit-learn's C = 1 for 280 photographs.
    regression = LogisticRegression(maxIter=200, regParam=1 / 280, standardization=False)
    fitted = Pipeline(stages=[featurizer, regression]).fit(divided.where("not tested"))
    predicted = fitted.transform(divided.where("tested")).select("name", "label", "prediction")
    predicted.write.parquet(f"python-predictions/split={split}")
