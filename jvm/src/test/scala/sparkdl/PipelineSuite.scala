package sparkdl

import java.nio.file.{Files, Path, Paths}

import org.apache.spark.ml.{Pipeline, PipelineModel, PipelineStage}
import org.apache.spark.ml.classification.{LogisticRegression, LogisticRegressionModel}
import org.apache.spark.ml.evaluation.MulticlassClassificationEvaluator
import org.apache.spark.ml.tuning.{CrossValidator, ParamGridBuilder}
import org.apache.spark.sql.DataFrame

/** The stages inside pipelines: fit, tune, save, load, and load what Python wrote. */
class PipelineSuite extends SparkFixture {

  private def featurizer =
    new DeepImageFeaturizer().setInputCol("picture").setOutputCol("features").setModelName(tiny)

  private def regression = new LogisticRegression().setMaxIter(5).setRegParam(0.01)

  /** Bright pictures against dark ones: what even two layers can tell. */
  private lazy val labelled: DataFrame = {
    val session = spark
    import session.implicits._
    (0 until 24).map { i =>
      val image = Pictures.drawn(i)
      if (i % 2 == 0) image.createGraphics().fillRect(0, 0, 40, 36)
      (i, (i % 2).toDouble, Pictures.encoded(image, "png"))
    }.toDF("id", "label", "picture").cache()
  }

  private def predictions(model: PipelineModel): Seq[(Int, Double)] =
    model.transform(labelled).select("id", "prediction").orderBy("id").collect().toSeq.map(r =>
      (r.getInt(0), r.getDouble(1)))

  private def fitted: PipelineModel =
    new Pipeline().setStages(Array[PipelineStage](featurizer, regression)).fit(labelled)

  test("features train a logistic regression, and the fitted pipeline loads as it was saved") {
    val model = fitted
    val right = predictions(model).count { case (id, label) => label == id % 2 }
    assert(right >= 20, s"$right of 24 right")
    val path = newFolder().resolve("model").toString
    model.write.save(path)
    assert(predictions(PipelineModel.load(path)) === predictions(model))
    assert(predictions(PipelineLoader.loadModel(path)) === predictions(model))
  }

  test("a saved pipeline runs where its bundle no longer is, also after the cache was emptied") {
    val folder = newFolder()
    val bundle = Files.copy(Paths.get(tiny), folder.resolve("mine.sparkdl"))
    val model = new Pipeline()
      .setStages(Array[PipelineStage](featurizer.setModelName(bundle.toString), regression)).fit(labelled)
    val expected = predictions(model)
    val path = folder.resolve("model").toString
    model.write.save(path)
    Files.delete(bundle)
    val digest =
      SavedStage.readMetadata(s"$path/stages/0_${model.stages.head.uid}", spark).get("bundle").asText
    assert(digest === digestOf(Paths.get(tiny)))
    Files.delete(SparkFixture.cache.resolve("stages").resolve(s"$digest.sparkdl"))
    val loaded = PipelineModel.load(path)
    assert(predictions(loaded) === expected)
    val stage = loaded.stages.head.asInstanceOf[DeepImageFeaturizer]
    assert(stage.getModelName === bundle.toString)
    val again = folder.resolve("again").toString
    loaded.write.save(again)
    assert(predictions(PipelineModel.load(again)) === expected)
    stage.setModelName(bundle.toString)
    assert(refusal(stage.transform(labelled)) === s"The file $bundle does not exist.")
  }

  test("a stage that was changed in transit is refused") {
    val path = newFolder().resolve("stage").toString
    featurizer.write.save(path)
    val metadata =
      Files.list(Paths.get(path, "metadata")).filter(_.getFileName.toString.startsWith("part-")).findFirst.get
    val text = new String(Files.readAllBytes(metadata), "UTF-8")
    Files.delete(metadata.resolveSibling("." + metadata.getFileName + ".crc"))
    Files.write(metadata, text.replaceAll("\"bundle\":\"....", "\"bundle\":\"0000").getBytes("UTF-8"))
    val error = intercept[IllegalArgumentException](DeepImageFeaturizer.load(path))
    assert(error.getMessage.startsWith(s"The bundle saved under $path/bundle is damaged: its SHA-256 is "))
  }

  test("a cross validation tries the stage's own params") {
    val stage = featurizer
    val model = regression
    val grid = new ParamGridBuilder().addGrid(
      stage.pooling,
      Array("avg", "max")
    ).addGrid(model.regParam, Array(0.01, 0.1)).build()
    val search = new CrossValidator()
      .setEstimator(new Pipeline().setStages(Array[PipelineStage](stage, model)))
      .setEvaluator(new MulticlassClassificationEvaluator())
      .setEstimatorParamMaps(grid).setNumFolds(2).setParallelism(2).setSeed(1)
    val found = search.fit(labelled)
    assert(found.avgMetrics.length === 4)
    assert(found.avgMetrics.forall(m => m > 0 && m <= 1))
  }

  /** Rewrites a pipeline that Spark saved into the form in which PySpark writes it: only the metadata differs. */
  private def asPython(path: Path): Unit = {
    val file =
      Files.list(path.resolve("metadata")).filter(_.getFileName.toString.startsWith("part-")).findFirst.get
    val text = new String(Files.readAllBytes(file), "UTF-8")
    Files.delete(file.resolveSibling("." + file.getFileName + ".crc"))
    val python = text.replace("org.apache.spark.ml.Pipeline", "pyspark.ml.pipeline.Pipeline")
      .replace("\"paramMap\":{", "\"paramMap\":{\"language\":\"Python\",")
    assert(python != text)
    Files.write(file, python.getBytes("UTF-8"))
  }

  test("PipelineLoader opens pipelines that Python wrote, fitted or not, within each other") {
    val inner = fitted
    val outer = new Pipeline().setStages(Array[PipelineStage](inner)).fit(labelled)
    val path = newFolder().resolve("model")
    outer.write.save(path.toString)
    asPython(path)
    asPython(path.resolve(s"stages/0_${inner.uid}"))
    intercept[IllegalArgumentException](PipelineModel.load(path.toString))
    val (loaded, _) = countingJobs(PipelineLoader.loadModel(path.toString))
    assert(loaded.uid === outer.uid)
    assert(loaded.stages.head.asInstanceOf[PipelineModel].uid === inner.uid)
    assert(loaded.stages.head.asInstanceOf[PipelineModel].stages.last.isInstanceOf[LogisticRegressionModel])
    assert(predictions(loaded) === predictions(outer))

    val stages = (1 to 11).map(i => featurizer.setOutputCol(s"f$i")) :+ regression.setFeaturesCol("f3")
    val unfitted = newFolder().resolve("pipeline")
    new Pipeline().setStages(stages.toArray[PipelineStage]).write.save(unfitted.toString)
    asPython(unfitted)
    val pipeline = PipelineLoader.load(unfitted.toString).asInstanceOf[Pipeline]
    assert(pipeline.getStages.map(_.uid) === stages.map(_.uid).toArray)
    assert(predictions(pipeline.fit(labelled)).length === 24)
    val message = intercept[IllegalArgumentException](PipelineLoader.loadModel(unfitted.toString)).getMessage
    assert(
      message === s"$unfitted holds a org.apache.spark.ml.Pipeline, not a PipelineModel: open it with PipelineLoader.load."
    )
  }

  test("a stage that only Python has is refused by name") {
    val path = newFolder().resolve("stage")
    featurizer.write.save(path.toString)
    val file =
      Files.list(path.resolve("metadata")).filter(_.getFileName.toString.startsWith("part-")).findFirst.get
    Files.delete(file.resolveSibling("." + file.getFileName + ".crc"))
    val text = new String(Files.readAllBytes(file), "UTF-8")
    Files.write(file, text.replace("sparkdl.DeepImageFeaturizer", "mypackage.Stage").getBytes("UTF-8"))
    assert(intercept[IllegalArgumentException](PipelineLoader.load(path.toString)).getMessage ===
      s"The stage saved under $path is of the class mypackage.Stage, which Scala cannot load: " +
      "only stages that exist in both languages travel between them.")
  }

  private def digestOf(file: Path): String = engine.CacheFolder.digest(Files.newInputStream(file))
}
