package sparkdl

import java.nio.file.{Files, Path}

import org.apache.spark.ml.attribute.AttributeGroup
import org.apache.spark.ml.functions.array_to_vector
import org.apache.spark.ml.linalg.{Vector, Vectors}
import org.apache.spark.ml.param.ParamMap
import org.apache.spark.sql.{DataFrame, SaveMode}
import org.apache.spark.sql.functions.{array, col, expr, lit, when}
import org.apache.spark.sql.streaming.Trigger
import org.apache.spark.sql.types._

import sparkdl.ffi.ErrorKind

/**
 * The model tensors.keras: tokens int32 [4] and vector float32 [3] in; steps float32 [4, 2], score float32 [1] and
 * greater bool [3] out.
 */
class KerasTransformerSuite extends KerasFixture {

  private lazy val wanted = expected("tensors.json")

  private lazy val rows: DataFrame = {
    val session = spark
    import session.implicits._
    (0 until wanted.get("tokens").size).map { n =>
      (
        n,
        numbers(wanted.get("tokens").get(n)).map(_.toInt),
        numbers(wanted.get("vector").get(n)).map(_.toFloat))
    }.toDF("id", "tokens", "vector")
  }

  private def model: Path = keras("tensors.keras")

  private def stage: KerasTransformer = new KerasTransformer()
    .setInputCols(Array("tokens", "vector")).setOutputCols(Array("steps", "score", "greater"))
    .setModelFile(model.toString)

  private def one(name: String): KerasTransformer = new KerasTransformer()
    .setInputCols(Array("tokens", "vector")).setOutputCol("out").setOutputNames(Array(name))
    .setModelFile(model.toString)

  private def check(result: DataFrame, columns: String*): Unit =
    result.orderBy("id").collect().foreach { row =>
      columns.foreach { name =>
        assertClose(flat(row.getAs[Any](name)), numbers(wanted.get(name).get(row.getInt(0))))
      }
    }

  test("every output is a column of arrays nested by its shape, of its own type, with what Keras gives") {
    val result = stage.transform(rows)
    def nested(kind: DataType, depth: Int): DataType =
      (1 to depth).foldLeft(kind)((inner, _) => ArrayType(inner, containsNull = false))
    assert(result.schema("steps").dataType === nested(FloatType, 2))
    assert(result.schema("score").dataType === nested(FloatType, 1))
    assert(result.schema("greater").dataType === nested(BooleanType, 1))
    check(result, "steps", "score", "greater")
    assert(result.head().getAs[scala.collection.Seq[scala.collection.Seq[Float]]](
      "steps").map(_.size) === Seq.fill(4)(2))
  }

  test("vectors come out flattened, with their size in the metadata of the column") {
    val result = stage.setOutputMode("vector").transform(rows)
    Seq("steps" -> 8, "score" -> 1, "greater" -> 3).foreach { case (name, size) =>
      assert(AttributeGroup.fromStructField(result.schema(name)).size === size)
    }
    assert(result.head().getAs[Vector]("steps").size === 8)
    check(result, "steps", "score", "greater")
  }

  test("columns are inputs and outputs by name, in any order, and outputs may be left out") {
    val turned = stage.setInputCols(Array("vector", "tokens")).setInputNames(Array("vector", "tokens"))
      .setOutputCols(Array("score", "steps")).setOutputNames(Array("score", "steps")).transform(rows)
    assert(turned.columns === Array("id", "tokens", "vector", "score", "steps"))
    check(turned, "score", "steps")
    assert(one("score").transform(rows).columns.last === "out")
  }

  test("numbers of every type, nullable arrays and MLlib vectors, dense and sparse, are the same input") {
    val session = spark
    import session.implicits._
    val expected = flat(one("score").transform(rows).orderBy("id").collect().toSeq.map(_.getAs[Any]("out")))
    def same(tokens: String, vector: DataFrame => DataFrame): Unit = {
      val frame = vector(rows.withColumn("tokens", col("tokens").cast(tokens)))
      assertClose(
        flat(one("score").transform(frame).orderBy("id").collect().toSeq.map(_.getAs[Any]("out"))),
        expected)
    }
    Seq("array<tinyint>", "array<smallint>", "array<int>", "array<bigint>").foreach(same(_, identity))
    same("array<int>", _.withColumn("vector", col("vector").cast("array<double>")))
    same(
      "array<int>",
      _.withColumn("vector", array((0 until 3).map(i => when(lit(true), col("vector")(i))): _*)))
    val dense = rows.as[(Int, Seq[Int], Seq[Float])].map { case (id, tokens, vector) =>
      (id, tokens, Vectors.dense(vector.map(_.toDouble).toArray))
    }.toDF("id", "tokens", "vector")
    same("array<int>", _ => dense)
    val sparse = dense.as[(Int, Seq[Int], Vector)].map { case (id, tokens, vector) =>
      (id, tokens, Vectors.sparse(3, Array(0, 1, 2), vector.toArray): Vector)
    }.toDF("id", "tokens", "vector")
    same("array<int>", _ => sparse)
    val zeros = Seq((
      0,
      Seq(1, 2, 3, 4),
      Vectors.sparse(3, Array(1), Array(0.5)): Vector)).toDF(rows.columns.toIndexedSeq: _*)
    val spelled = Seq((0, Seq(1, 2, 3, 4), Seq(0f, 0.5f, 0f))).toDF(rows.columns.toIndexedSeq: _*)
    assert(one("score").transform(zeros).head().getAs[Any]("out") ===
      one("score").transform(spelled).head().getAs[Any]("out"))
  }

  test("booleans count as 0 and 1 where a model takes numbers") {
    val session = spark
    import session.implicits._
    val truths = Seq((0, Seq(1, 2, 3, 4), Seq(true, false, true))).toDF("id", "tokens", "vector")
    val same = Seq((0, Seq(1, 2, 3, 4), Seq(1f, 0f, 1f))).toDF("id", "tokens", "vector")
    assert(one("score").transform(truths).head().getAs[Any]("out") === one(
      "score").transform(same).head().getAs[Any]("out"))
  }

  private lazy val mixed: DataFrame = {
    val session = spark
    import session.implicits._
    Seq[(String, Seq[java.lang.Long], Seq[java.lang.Float])](
      ("good", Seq(1L, 2L, 3L, 4L).map(Long.box), Seq(1f, 2f, 3f).map(Float.box)),
      ("null", null, Seq(1f, 2f, 3f).map(Float.box)),
      ("inner", Seq(1L, 2L, 3L, 4L).map(Long.box), Seq(Float.box(1f), null, Float.box(3f))),
      ("short", Seq(1L, 2L, 3L).map(Long.box), Seq(1f, 2f, 3f).map(Float.box)),
      ("large", Seq(1L, 2L, 3L, 1L << 40).map(Long.box), Seq(1f, 2f, 3f).map(Float.box))
    ).toDF("path", "tokens", "vector").coalesce(1)
  }

  test("a row that the model cannot take has null outputs and a reason, and the others are as without it") {
    val result = stage.setErrorCol("why").transform(mixed).collect()
    val reasons = result.map(row => row.getAs[String]("path") -> row.getAs[String]("why")).toMap
    result.foreach { row =>
      val good = row.getAs[String]("path") == "good"
      Seq("steps", "score", "greater").foreach(name => assert((row.getAs[Any](name) != null) === good, row))
    }
    assert(reasons("good") === null)
    assert(reasons("null") === "no value for the input tokens (null)")
    assert(reasons("inner").contains("null"))
    assert(reasons("short") === "3 numbers, but the input tokens takes the shape [4]")
    assert(reasons("large") === "a number that int32 does not hold, for the input tokens")
    val skipped = stage.setHandleInvalid("skip").transform(mixed).collect()
    assert(skipped.map(_.getString(0)) === Array("good"))
  }

  test("\"error\" stops the job and names the row by path, else by partition and place") {
    val named = failure(stage.setHandleInvalid("error").transform(mixed).collect())
    assert(named.kind() === ErrorKind.InvalidRow)
    assert(named.getMessage === "Cannot use the row null: no value for the input tokens (null). Set handleInvalid to " +
      "\"keep\" or \"skip\" to go on without it.")
    val placed = failure(stage.setHandleInvalid("error").transform(mixed.drop("path")).collect())
    assert(placed.getMessage.startsWith("Cannot use the row in partition 0, row 1: no value for"))
  }

  test("zero rows, empty partitions, one-row batches and partitions change nothing") {
    assert(stage.transform(rows.limit(0)).collect().isEmpty)
    check(stage.transform(rows.filter("id = 3").repartition(8)), "steps", "score")
    check(stage.setBatchSize(1).transform(rows.repartition(3)), "steps", "score", "greater")
  }

  test("a stream gives what the same rows give at rest") {
    val folder = newFolder().resolve("rows").toString
    rows.repartition(2, col("id")).write.mode(SaveMode.Overwrite).parquet(folder)
    val moving = stage.transform(spark.readStream.schema(rows.schema).parquet(folder))
    val query =
      moving.writeStream.format("memory").queryName("tensors").trigger(Trigger.AvailableNow()).start()
    query.awaitTermination()
    check(spark.table("tensors"), "steps", "score", "greater")
    assert(spark.table("tensors").count() === rows.count())
  }

  private def refused(change: KerasTransformer => KerasTransformer, frame: DataFrame = rows): String =
    refusal(change(stage).transform(frame))

  test("columns that cannot be an input are refused with what the model takes and what to change") {
    def of(tokens: String) = refused(identity, rows.withColumn("tokens", expr(tokens)))
    def message(kind: String, change: String) =
      s"Column tokens is of type $kind, but the input tokens of the model " +
        s"functional_1 takes numbers of shape [4] and type int32: $change."
    val whole = "cast the column to whole numbers first"
    assert(of("cast(tokens as array<float>)") === message("array<float>", whole))
    assert(of("transform(tokens, x -> cast(x as double))") === message("array<double>", whole))
    val numbers = "give a column of numbers, of arrays of numbers, or of vectors"
    assert(of("'text'") === message("string", numbers))
    assert(of("cast(tokens as array<string>)") === message("array<string>", numbers))
    assert(of("cast(tokens as array<decimal(9,2)>)") === message("array<decimal(9,2)>", numbers))
    assert(refused(
      _.setInputCols(Array("words", "vector")),
      rows.withColumn("words", array_to_vector(col("vector"))))
      .startsWith(
        "Column words is of type vector, but the input tokens of the model functional_1 takes numbers"))
    assert(of("array(tokens)") === message("array<array<int>>", "give an array of numbers"))
    assert(of("1") === message("int", "give an array of numbers"))
    val floats = rows.withColumn("vector", expr("array(vector)"))
    assert(refused(
      identity,
      floats).startsWith("Column vector is of type array<array<float>>, but the input vector of"))
  }

  test(
    "names and numbers of columns that do not fit the model are refused, and the message lists what there is") {
    assert(refused(_.setInputNames(Array("tokens", "image"))) ===
      "The model functional_1 has no input image (inputNames); it has tokens, vector.")
    assert(refused(_.setInputNames(Array("tokens", "tokens"))) === "The param inputNames names tokens twice.")
    assert(refused(_.setInputNames(Array("tokens"))) ===
      "The model functional_1 has 2 inputs (tokens, vector) but inputNames has 1: name each of them once.")
    assert(refused(_.setInputCols(Array("tokens"))) ===
      "The model functional_1 has 2 inputs (tokens, vector) but inputCols has 1 columns: give one column per input.")
    assert(refused(_.setOutputNames(Array("classes"))) ===
      "The model functional_1 has no output classes (outputNames); it has steps, score, greater.")
    assert(refused(_.setOutputCols(Array("a", "b"))) ===
      "3 outputs (steps, score, greater) are asked of the model functional_1 but outputCols has 2 columns: give one " +
      "column per output, or choose by outputNames.")
    assert(refused(_.setOutputCols(Array("a", "b", "a"))) === "Column a already exists.")
    assert(refused(_.setInputCol("tokens")) ===
      "KerasTransformer takes either inputCol or inputCols, but both are set: clear one of them.")
    assert(refused(_.setOutputCol("tokens")) ===
      "KerasTransformer takes either outputCol or outputCols, but both are set: clear one of them.")
    assert(refusal(new KerasTransformer().setModelFile(model.toString).transform(rows)) ===
      "KerasTransformer needs the param inputCol or inputCols: set one of them first.")
    assert(refused(
      _.setModelFile(tiny)) === s"KerasTransformer takes models on tensors, but $tiny is a bundle for " +
      "pictures: use it as modelName of DeepImageFeaturizer or DeepImagePredictor.")
  }

  test(
    "a saved stage runs where the Keras file no longer is, and forgets its bundle with another modelFile") {
    val folder = newFolder()
    val file = Files.copy(model, folder.resolve("mine.keras"))
    val path = folder.resolve("stage").toString
    stage.setModelFile(file.toString).write.save(path)
    Files.delete(file)
    val digest = SavedStage.readMetadata(path, spark).get("bundle").asText
    Files.delete(SparkFixture.cache.resolve("stages").resolve(s"$digest.sparkdl"))
    val loaded = KerasTransformer.load(path)
    check(loaded.transform(rows), "steps", "score", "greater")
    check(loaded.copy(ParamMap.empty).transform(rows), "score")
    val text = s"The file $file does not exist."
    assert(refusal(loaded.copy(ParamMap(loaded.expectedSha256 -> "0" * 64)).transform(rows)) === text)
    assert(refusal(loaded.setModelFile(file.toString).transform(rows)) === text)
    assert(PipelineLoader.load(path).asInstanceOf[KerasTransformer].uid === loaded.uid)
  }
}
