package sparkdl

import org.apache.spark.ml.{Pipeline, PipelineModel}
import org.apache.spark.ml.functions.array_to_vector
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions.{col, expr, lit, when}
import org.apache.spark.sql.types._

/** The graph several.pb: a float32 [3] and b int64 [any, 3] in; total float32 [], tripled int64 and both float32 out. */
class TFTransformerSuite extends KerasFixture {
  import TFInputGraphSuite.{graphs, wanted}

  private lazy val graph =
    TFInputGraph.fromGraphDef(graphs("several.pb"), Seq("a", "b"), Seq("total", "tripled", "both"))

  private lazy val rows: DataFrame = {
    val session = spark
    import session.implicits._
    (0 until wanted.get("a").size).map { n =>
      val b = numbers(wanted.get("b").get(n)).map(_.toLong).grouped(3).toSeq
      (n, numbers(wanted.get("a").get(n)).map(_.toFloat), b)
    }.toDF("id", "x", "y")
  }

  private def stage: TFTransformer = new TFTransformer().setTfInputGraph(graph)
    .setInputMapping(Map("x" -> "a", "y" -> "b:0"))
    .setOutputMapping(Map("total" -> "sum", "tripled:0" -> "thrice", "both" -> "mixed"))

  private def check(result: DataFrame): Unit = result.orderBy("id").collect().foreach { row =>
    Seq("sum" -> "total", "thrice" -> "tripled", "mixed" -> "both").foreach { case (column, name) =>
      assertClose(flat(row.getAs[Any](column)), numbers(wanted.get(name).get(row.getInt(0))))
    }
  }

  test("new columns come in the order of their names, of the tensors' types, with what TensorFlow gives") {
    val result = stage.transform(rows)
    assert(result.columns === Array("id", "x", "y", "mixed", "sum", "thrice"))
    def nested(kind: DataType) = ArrayType(ArrayType(kind, containsNull = false), containsNull = false)
    assert(result.schema("sum").dataType === FloatType)
    assert(result.schema("thrice").dataType === nested(LongType))
    assert(result.schema("mixed").dataType === nested(FloatType))
    assert(stage.transformSchema(rows.schema) === result.schema)
    check(result)
  }

  test("flat arrays and vectors feed inputs, and outputs may be vectors") {
    check(stage.transform(rows.withColumn("y", expr("flatten(y)"))))
    check(stage.transform(rows.withColumn("x", array_to_vector(col("x")))))
    val vectors = stage.setOutputMapping(Map("both" -> "mixed")).setOutputMode("vector").transform(rows)
    vectors.orderBy("id").collect().foreach { row =>
      assertClose(flat(row.getAs[Any]("mixed")), numbers(wanted.get("both").get(row.getInt(0))))
    }
  }

  test("columns of other types are refused with the cast to write, or converted where that is asked for") {
    val doubles = rows.withColumn("x", col("x").cast("array<double>"))
    assert(refusal(stage.transform(doubles)) ===
      "Column x is of type array<double>, but the input a:0 of the graph several takes numbers of shape [3] and type " +
      "float32: cast the column to array<float>, or set castInputs.")
    check(stage.setCastInputs(true).transform(doubles))
    val ints = rows.withColumn("y", col("y").cast("array<array<int>>"))
    assert(
      refusal(stage.transform(ints)).contains("cast the column to array<array<bigint>>, or set castInputs"))
    val texts = rows.withColumn("x", lit("text"))
    assert(refusal(stage.setCastInputs(true).transform(texts)).contains("give a column of numbers"))
  }

  test("rows with nulls or ragged arrays keep their place, with a reason") {
    val broken = rows
      .withColumn("x", when(col("id") =!= 1, col("x")))
      .withColumn("y", when(col("id") === 3, expr("array(array(1L, 2L, 3L), array(1L))")).otherwise(col("y")))
    val found = stage.setErrorCol("why").transform(broken).orderBy("id").collect()
    assert(found.filter(_.isNullAt(3)).map(_.getInt(0)) === Array(1, 3))
    assert(found(1).getAs[String]("why") === "no value for the input a:0 (null)")
    assert(found(3).getAs[String]("why").contains("not of one length"))
    assert(stage.setHandleInvalid("skip").transform(broken).count() === 3)
    assert(failure(stage.setHandleInvalid("error").transform(broken).collect()).getMessage.contains("row 1"))
  }

  test("a saved pipeline carries its graph and its mappings") {
    val path = newFolder().resolve("pipeline").toString
    new Pipeline().setStages(Array(stage)).fit(rows).write.save(path)
    val loaded = PipelineModel.load(path)
    val transformer = loaded.stages.head.asInstanceOf[TFTransformer]
    assert(transformer.getInputMapping === stage.getInputMapping)
    assert(transformer.getOutputMapping === stage.getOutputMapping)
    check(loaded.transform(rows))
  }

  test("wrong mappings are refused before a job") {
    def refused(expected: String)(change: TFTransformer => TFTransformer): Unit =
      assert(refusal(change(stage).transform(rows.withColumn("z", col("x")))).contains(expected))
    refused("no input aa; the nearest: a:0")(_.setInputMapping(Map("x" -> "aa", "y" -> "b")))
    refused("no output tota; the nearest: total:0")(_.setOutputMapping(Map("tota" -> "out")))
    refused("The input b:0 of the graph several has no column: add it to inputMapping")(
      _.setInputMapping(Map("x" -> "a")))
    refused("The columns x and z both feed the input a:0 of the graph several")(
      _.setInputMapping(Map("x" -> "a", "z" -> "a:0", "y" -> "b")))
    refused("outputMapping has the column out twice")(
      _.setOutputMapping(Map("total" -> "out", "both" -> "out")))
    refused("outputMapping must be a map of tensor to column, and neither it nor a name empty")(
      _.setOutputMapping(Map.empty[String, String]))
    refused("Column q does not exist")(_.setInputMapping(Map("q" -> "a", "y" -> "b")))
    refused("tfInputGraph must be a TFInputGraph or the path of its bundle")(_.setTfInputGraph("graph.pb"))
    refused("TFTransformer takes graphs on tensors")(_.setTfInputGraph(tiny))
  }
}
