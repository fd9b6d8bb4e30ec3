// The main job on five fixed splits of the flower photographs, in nothing but Scala: `tests/python/test_flowers.py`
// has the split rule, `flowers.py` is the same job in Python. Reads `flowers/` and `mobilenet.sparkdl`, writes
// the features and the predictions of each split.
import org.apache.spark.ml.Pipeline
import org.apache.spark.ml.classification.LogisticRegression
import org.apache.spark.ml.functions.vector_to_array
import org.apache.spark.sql.expressions.Window
import org.apache.spark.sql.functions.{col, concat_ws, count, dense_rank, lit, regexp_extract, round, row_number, sha2}

val name = regexp_extract(col("path"), "([^/]+/[^/]+)$", 1)
val photos = spark.read.format("binaryFile").load("flowers/*/*.jpg")
  .select(name.as("name"), regexp_extract(col("path"), "([^/]+)/[^/]+$", 1).as("class"), col("content"))
  .withColumn("label", (dense_rank().over(Window.orderBy("class")) - 1).cast("double"))
  .repartition(4, col("name"))
  .cache()

val featurizer = new sparkdl.DeepImageFeaturizer()
  .setInputCol("content").setOutputCol("features").setModelName("mobilenet.sparkdl")
featurizer.transform(photos)
  .select(col("name"), vector_to_array(col("features"), "float32").as("features"))
  .write.parquet("scala-features")

for (split <- 0 until 5) {
  val ofClass = Window.partitionBy("class")
  val byHash = ofClass.orderBy(sha2(concat_ws("/", lit(split), col("name")), 256))
  val divided = photos
    .withColumn("position", row_number().over(byHash))
    .withColumn("tested", col("position") <= round(count("*").over(ofClass) * 0.3))
    .repartition(4, col("name"))
    .sortWithinPartitions("name")
    .cache()
  // The objective of scikit-learn's C = 1 for 280 photographs.
  val regression = new LogisticRegression().setMaxIter(200).setRegParam(1.0 / 280).setStandardization(false)
  val fitted = new Pipeline().setStages(Array(featurizer, regression)).fit(divided.where(!col("tested")))
  fitted.transform(divided.where(col("tested")))
    .select("name", "label", "prediction")
    .write.parquet(s"scala-predictions/split=$split")
}
