package sparkdl

import org.apache.spark.ml.{Pipeline, PipelineModel}
import org.apache.spark.ml.evaluation.{MulticlassClassificationEvaluator, RegressionEvaluator}
import org.apache.spark.ml.feature.IndexToString
import org.apache.spark.ml.linalg.{Vector, Vectors}
import org.apache.spark.sql.{DataFrame, Row}

/** Models as the estimators of PySpark fit them: predictions, and labels that evaluators take. */
class FittedModelSuite extends KerasFixture {

  private def pictures(): DataFrame = {
    val session = spark
    import session.implicits._
    (0 until 4).map(n => (n, keras(if (n < 3) s"$n.png" else "none.png").toString)).toDF(
      "id",
      "uri").coalesce(1)
  }

  private def model = new KerasImageFileModel()
    .setInputCol("uri").setOutputCol("out").setModelFile(keras("scores.keras").toString).setInputSize(Array(
      8,
      8))
    .setPredictionKind("class").setClasses(2).setLabels(Array("rose", "tulip")).setLabelKind("text")

  private def argmax(scores: Vector): Double = scores.argmax.toDouble

  test("the prediction is the index of the best class, with the classes' names, and null without scores") {
    val result = model.transform(pictures()).orderBy("id")
    assert(result.columns === Array("id", "uri", "out", "prediction"))
    assert(result.schema === model.transformSchema(pictures().schema))
    val rows = result.collect()
    assert(rows.take(3).map(_.getDouble(3)) === rows.take(3).map(row => argmax(row.getAs[Vector](2))))
    assert(rows(3).isNullAt(2) && rows(3).isNullAt(3))
    val named = new IndexToString().setInputCol("prediction").setOutputCol("name")
    val names = named.transform(result.where("prediction IS NOT NULL")).select("prediction", "name").collect()
    assert(names.forall(row => row.getString(1) === Seq("rose", "tulip")(row.getDouble(0).toInt)))
    Seq("array", "vector").foreach { mode =>
      assert(model.setOutputMode(mode).transform(pictures()).orderBy("id").select("prediction").collect() ===
        result.select("prediction").collect())
    }
  }

  test("labels of any kind become indexes that evaluators take") {
    val session = spark
    import session.implicits._
    val best =
      model.transform(pictures()).where("id < 3").select("id", "uri", "prediction").as[(Int, String, Double)]
        .collect()
    val wrong = best.map { case (id, uri, index) => (id, uri, if (id == 0) 1 - index.toInt else index.toInt) }
    def accuracy(scored: DataFrame) =
      new MulticlassClassificationEvaluator().setLabelCol(
        "labelIndex").setMetricName("accuracy").evaluate(scored)
    val texts = wrong.map { case (id, uri, index) => (id, uri, Seq("rose", "tulip")(index)) }.toSeq.toDF(
      "id",
      "uri",
      "label")
    val scored = model.transform(texts)
    assert(scored.schema === model.transformSchema(texts.schema))
    assert(math.abs(accuracy(scored) - 2.0 / 3) < 1e-9)
    val vectors = wrong.map { case (id, uri, index) =>
      (id, uri, Vectors.sparse(2, Seq(index -> 1.0)))
    }.toSeq.toDF("id", "uri", "label")
    val oneHot = model.setLabelKind("vector")
    assert(math.abs(accuracy(oneHot.transform(vectors)) - 2.0 / 3) < 1e-9)
    val arrays =
      wrong.map { case (id, uri, index) => (id, uri, Seq(1 - index, index)) }.toSeq.toDF("id", "uri", "label")
    assert(math.abs(accuracy(oneHot.transform(arrays)) - 2.0 / 3) < 1e-9)
    val numbers = wrong.toSeq.toDF("id", "uri", "label")
    assert(!model.setLabelKind("number").transform(numbers).columns.contains("labelIndex"))
    // A label that was not there in training is no class, and is not lost.
    val unseen =
      Seq((0, keras("0.png").toString, "lily"), (1, keras("1.png").toString, null)).toDF("id", "uri", "label")
    assert(model.transform(unseen).orderBy("id").select("labelIndex").collect() === Array(
      Row(2.0),
      Row(null)))
  }

  test("one number is a value, or a class above the threshold") {
    val session = spark
    import session.implicits._
    val facts = expected("tensors.json")
    val rows = (0 until 6).map { n =>
      (numbers(facts.get("tokens").get(n)).map(_.toInt), numbers(facts.get("vector").get(n)))
    }.toDF("tokens", "vector").coalesce(1)
    val model = new KerasModel().setInputCols(Array("tokens", "vector")).setOutputCol("out")
      .setOutputNames(Array("score")).setModelFile(keras("tensors.keras").toString).setClasses(1)
    val wanted = numbers(facts.get("score"))
    Seq("vector", "array").foreach { mode =>
      model.setOutputMode(mode).setPredictionKind("value")
      assertClose(model.transform(rows).select("prediction").collect().map(_.getDouble(0)).toSeq, wanted)
      model.setPredictionKind("binary").setThreshold(0.1)
      assert(model.transform(rows).select("prediction").collect().map(_.getDouble(0)).toSeq ===
        wanted.map(score => if (score > 0.1) 1.0 else 0.0))
    }
  }

  test("what stands for a training that failed predicts what never wins") {
    val failed = model.setPredictionKind("failed").setFailure("the loss became NaN")
    failed.clear(failed.modelFile)
    val result = failed.transform(pictures())
    assert(result.schema.fieldNames === failed.transformSchema(pictures().schema).fieldNames)
    assert(result.select("prediction").distinct().collect() === Array(Row(-1.0)))
    val numbers = failed.setClasses(1).transform(pictures().selectExpr("*", "double(id) AS label"))
    val error = new RegressionEvaluator().setMetricName("rmse").evaluate(numbers)
    assert(error > 1e100 && !error.isInfinite)
    val path = newFolder().resolve("failed").toString
    failed.write.save(path)
    assert(KerasImageFileModel.load(path).getFailure === "the loss became NaN")
  }

  test("a pipeline with a fitted model saves, loads and predicts the same") {
    val path = newFolder().resolve("pipeline").toString
    val pipeline = new Pipeline().setStages(Array(
      model,
      new IndexToString().setInputCol("prediction").setOutputCol(
        "name"))).fit(pictures().where("id < 3"))
    pipeline.write.save(path)
    val rows = pictures().where("id < 3")
    val (before, after) = (pipeline.transform(rows), PipelineModel.load(path).transform(rows))
    assert(after.schema === before.schema && after.collect() === before.collect())
  }
}
