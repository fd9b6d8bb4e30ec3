package sparkdl

import org.apache.spark.sql.{DataFrame, Row}
import org.apache.spark.sql.functions.{col, lit}
import org.apache.spark.sql.types._

import sparkdl.ffi.{ErrorKind, SparkDLException}

/** Rows without a usable picture are data: kept with a reason, dropped, or named. */
class InvalidRowsSuite extends SparkFixture {

  private lazy val mixed: DataFrame = {
    val session = spark
    import session.implicits._
    Seq[(String, Array[Byte])](
      ("good-1.png", Pictures.png(1)),
      ("truncated.jpg", Pictures.truncated(2)),
      ("text.jpg", "not a picture".getBytes),
      ("good-2.jpg", Pictures.jpeg(3)),
      ("null.png", null),
      ("huge.png", Pictures.header(60000, 60000)),
      ("good-3.png", Pictures.png(4))
    ).toDF("path", "picture").coalesce(1)
  }

  private val bad = Set("truncated.jpg", "text.jpg", "null.png", "huge.png")

  private def stages: Seq[PictureTransformer] = Seq(
    new DeepImageFeaturizer(),
    new DeepImageFeaturizer().setOutputMode("array"),
    new DeepImagePredictor(),
    new DeepImagePredictor().setDecodePredictions(true)
  ).map(_.setInputCol("picture").setOutputCol("out").setModelName(tiny).setBatchSize(3))

  test("\"keep\" keeps every row in order, and gives a reason for each bad one and none for the good ones") {
    stages.foreach { stage =>
      val rows = stage.setErrorCol("why").transform(mixed).select("path", "out", "why").collect()
      assert(rows.map(_.getString(0)) === mixed.select("path").collect().map(_.getString(0)))
      rows.foreach { row =>
        assert(row.isNullAt(1) === bad(row.getString(0)), row)
        assert(row.isNullAt(2) !== bad(row.getString(0)), row)
      }
      val reasons = rows.filterNot(_.isNullAt(2)).map(row => row.getString(0) -> row.getString(2)).toMap
      assert(reasons("null.png").contains("null"))
      assert(reasons("huge.png").contains("60000") && reasons("huge.png").contains("maxPixels"))
      assert(reasons.values.toSet.size === 4)
    }
  }

  test("\"keep\" without errorCol still keeps every row") {
    stages.foreach { stage =>
      val result = stage.transform(mixed)
      assert(result.columns === Array("path", "picture", "out"))
      assert(result.count() === 7)
      assert(result.filter(col("out").isNull).count() === 4)
    }
  }

  test("\"skip\" keeps the good rows") {
    stages.foreach { stage =>
      val rows = stage.setHandleInvalid("skip").setErrorCol("why").transform(mixed).collect()
      assert(rows.map(_.getString(0)) === Array("good-1.png", "good-2.jpg", "good-3.png"))
      rows.foreach(row => assert(!row.isNullAt(2) && row.isNullAt(3)))
    }
  }

  private def failure(stage: PictureTransformer, frame: DataFrame): SparkDLException = {
    val error = intercept[Throwable](stage.setHandleInvalid("error").transform(frame).collect())
    Iterator.iterate(error)(_.getCause).takeWhile(_ != null).collectFirst { case e: SparkDLException => e }
      .getOrElse(fail(error))
  }

  test("\"error\" stops the job and names the file by the column path or origin") {
    bad.foreach { name =>
      val error = failure(stages.head, mixed.filter(col("path") === name || col("path").startsWith("good")))
      assert(error.kind() === ErrorKind.InvalidRow)
      assert(error.getCondition === "SPARKDL_INVALID_ROW")
      assert(error.getMessage.startsWith(s"Cannot use the picture $name: "))
      assert(error.getMessage.endsWith(". Set handleInvalid to \"keep\" or \"skip\" to go on without it."))
    }
    val both = mixed.withColumn("origin", lit("the-origin"))
    assert(failure(stages.head, both).getMessage.startsWith("Cannot use the picture the-origin: "))
  }

  test("\"error\" names partition and row where no column names the file") {
    val error = failure(stages.head, mixed.select("picture"))
    assert(error.getMessage.startsWith("Cannot use the picture in partition 0, row 1: "))
    val numbers = mixed.select(lit(1).as("path"), col("picture"))
    assert(failure(
      stages.head,
      numbers
    ).getMessage.startsWith("Cannot use the picture in partition 0, row 1: "))
  }

  private def structs(rows: Row*): DataFrame = spark.createDataFrame(
    spark.sparkContext.parallelize(rows.map(Row(_)), 1),
    StructType(Seq(StructField("picture", Pictures.structType)))
  )

  test("Spark's own invalid image, a null and a struct whose bytes do not fit its size are bad rows too") {
    val good = Pictures.struct(Pictures.drawn(1), "good.png")
    val short = Row("short.png", 40, 48, 3, 16, new Array[Byte](10))
    val frame = structs(good, Pictures.invalid("bad.png"), null, short)
    val rows = stages.head.setErrorCol("why").transform(frame).collect()
    assert(rows.map(_.isNullAt(1)) === Array(false, true, true, true))
    assert(rows.map(_.isNullAt(2)) === Array(true, false, false, false))
    assert(stages.head.setHandleInvalid("skip").transform(frame).count() === 1)
  }

  test("\"error\" names the file by the origin of an image struct, where it has one") {
    val frame = structs(Pictures.invalid("file:/a%20b/bad.png"))
    assert(failure(stages.head, frame).getMessage.startsWith("Cannot use the picture file:/a%20b/bad.png: "))
    val nameless = structs(Pictures.struct(Pictures.drawn(1), ""), Pictures.invalid(""))
    assert(failure(
      stages.head,
      nameless
    ).getMessage.startsWith("Cannot use the picture in partition 0, row 1: "))
  }
}
