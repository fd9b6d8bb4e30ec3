package sparkdl.examples

import org.apache.spark.ml.{Pipeline, PipelineModel}
import org.apache.spark.ml.classification.LogisticRegression
import org.apache.spark.ml.evaluation.MulticlassClassificationEvaluator
import org.apache.spark.ml.feature.{StringIndexer, StringIndexerModel}
import org.apache.spark.ml.linalg.Vector
import org.apache.spark.sql.{DataFrame, SparkSession}
import org.apache.spark.sql.expressions.Window
import org.apache.spark.sql.functions.{col, lit, regexp_extract, row_number, sha2}

import sparkdl.{DeepImageFeaturizer, DeepImagePredictor}

/**
 * The main job in Scala: labelled pictures, features of a pre-trained network, a logistic regression on them.
 *
 * Arguments: a folder with one folder of pictures per class, the model (a bundle, or a name of the table), and a
 * folder to save the fitted pipeline in.
 */
object PictureClassification {

  /** Pictures of a class in the sample set, at most. */
  private val perClass = 120

  def main(arguments: Array[String]): Unit = arguments match {
    case Array(pictures, model, saved) =>
      val spark = SparkSession.builder().appName("spark-deep-learning picture classification").getOrCreate()
      try run(sample(spark, pictures), model, saved)
      finally spark.stop()
    case _ =>
      Console.err.println("usage: PictureClassification PICTURES MODEL FOLDER-TO-SAVE-IN")
      sys.exit(2)
  }

  private def run(sample: DataFrame, model: String, saved: String): Unit = {
    val forTesting = col("position") % 10 < 3
    val (train, test) = (sample.where(!forTesting), sample.where(forTesting))
    println(s"${train.count()} pictures to train on, ${test.count()} others to test on; model $model")

    val fitted = pipeline(model).fit(train)
    val predicted = fitted.transform(test).cache()
    printConfusion(predicted, fitted)
    val accuracy = new MulticlassClassificationEvaluator().setMetricName("accuracy").evaluate(predicted)
    println(f"accuracy $accuracy%.3f")

    fitted.write.overwrite().save(saved)
    require(
      outcomes(PipelineModel.load(saved).transform(test)) == outcomes(predicted),
      "the reloaded pipeline predicts something else")
    println(s"saved the pipeline in $saved; reloaded, it predicts the same")
    classify(test, model)
  }

  /** The first pictures of each class in the order of a hash of their names, with their position. */
  private def sample(spark: SparkSession, folder: String): DataFrame = {
    val files = spark.read
      .format("binaryFile")
      .option("recursiveFileLookup", "true")
      .load(folder)
      .where("lower(path) rlike '[.](jpe?g|png|gif|bmp|webp|tiff?)$'")
    val name = regexp_extract(col("path"), "([^/]+/[^/]+)$", 1)
    val byHash = Window.partitionBy("class").orderBy(sha2(name, 256))
    val chosen = files
      .select(col("path"), name.as("name"), regexp_extract(col("path"), "([^/]+)/[^/]+$", 1).as("class"))
      .withColumn("position", row_number().over(byHash))
      .where(col("position") <= lit(perClass))
    files.select("path", "content").join(chosen, "path").cache()
  }

  private def pipeline(model: String): Pipeline = {
    val indexer =
      new StringIndexer().setInputCol("class").setOutputCol("label").setStringOrderType("alphabetAsc")
    val featurizer = new DeepImageFeaturizer()
      .setInputCol("content")
      .setOutputCol("features")
      .setModelName(model)
      .setHandleInvalid("skip")
    new Pipeline().setStages(Array(
      indexer,
      featurizer,
      new LogisticRegression().setMaxIter(60).setRegParam(0.05)))
  }

  private def printConfusion(predicted: DataFrame, fitted: PipelineModel): Unit = {
    val labels = fitted.stages(0).asInstanceOf[StringIndexerModel].labelsArray(0)
    val counts = predicted
      .groupBy("label", "prediction")
      .count()
      .collect()
      .map(row => (row.getDouble(0).toInt, row.getDouble(1).toInt) -> row.getLong(2))
      .toMap
      .withDefaultValue(0L)
    println(labels.map(label => f"$label%14s").mkString("true \\ predicted", "", ""))
    for ((label, row) <- labels.zipWithIndex) {
      println(labels.indices.map(column => f"${counts((row, column))}%14d").mkString(f"$label%-16s", "", ""))
    }
  }

  private def outcomes(predicted: DataFrame): Map[String, (Double, Vector)] =
    predicted
      .select("path", "prediction", "probability")
      .collect()
      .map(row => row.getString(0) -> ((row.getDouble(1), row.getAs[Vector](2))))
      .toMap

  /** Prints what the network itself takes a few of the pictures for. */
  private def classify(test: DataFrame, model: String): Unit = {
    val predictor = new DeepImagePredictor()
      .setInputCol("content")
      .setOutputCol("seen")
      .setModelName(model)
      .setDecodePredictions(true)
      .setTopK(1)
    predictor
      .transform(test.where("position = 1 or position = 11"))
      .selectExpr("name", "seen[0].description as description", "seen[0].probability as probability")
      .orderBy("name")
      .collect()
      .foreach(row => println(f"  ${row.getString(0)}: the network says ${row.get(1)} (${row.get(2)})"))
  }
}
