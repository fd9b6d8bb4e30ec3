package sparkdl

import java.nio.file.Files

import org.apache.spark.ml.linalg.Vector
import org.apache.spark.sql.{DataFrame, Row}
import org.apache.spark.sql.functions._
import org.apache.spark.sql.types._

/** The graphs of blocks.pb over rows: their blocks, groups and nulls. */
class BlocksSuite extends KerasFixture {
  import TFInputGraphSuite.graphs

  private def graph(inputs: String*)(outputs: String*): TFInputGraph =
    TFInputGraph.fromGraphDef(graphs("blocks.pb"), inputs, outputs)

  private lazy val ofRows = graph("x")("centred", "count")
  private lazy val reduction = graph("total_input", "most_input")("total", "most")

  /** 100 rows in three partitions: x from 0, null at each 11th; v of 1 to 3 numbers. */
  private lazy val rows: DataFrame = spark.range(0, 100, 1, 3).select(
    col("id"),
    (col("id") % 7).as("k"),
    when(col("id") % 11 =!= 10, col("id").cast("float")).as("x"),
    slice(array(lit(1f), lit(2f), lit(3f)), lit(1), (col("id") % 3 + 1).cast("int")).as("v"),
    col("id").cast("double").as("total"),
    array(col("id"), -col("id")).as("most")
  )

  test("mapRows runs a graph of one row for each row, of any length") {
    val result = Blocks.mapRows(rows, graph("v")("sum", "doubled"))
    assert(result.columns.takeRight(2) === Array("doubled", "sum"))
    assert(result.schema("sum").dataType === FloatType)
    assert(result.schema("doubled").dataType === ArrayType(FloatType, containsNull = false))
    result.collect().foreach { row =>
      val v = row.getAs[scala.collection.Seq[Float]]("v")
      assert(row.getAs[Float]("sum") === v.sum)
      assert(row.getAs[scala.collection.Seq[Float]]("doubled") === v.map(_ * 2))
    }
  }

  test("mapRows keeps rows without a value, with a reason, and names columns as it is told") {
    val broken = rows.withColumn("w", when(col("id") =!= 5, col("v"))).drop("v")
    val result = Blocks.mapRows(
      broken,
      graph("v")("sum"),
      Map("w" -> "v"),
      Map("sum:0" -> "s"),
      batchSize = 9,
      errorCol = Some("why"))
    assert(result.filter(col("s").isNull).select("id", "why").collect() ===
      Array(Row(5L, "no value for the input v:0 (null)")))
  }

  test("mapBlocks runs the usable rows of a block in one tensor") {
    val result =
      Blocks.mapBlocks(rows, ofRows, batchSize = 20, errorCol = Some("why")).orderBy("id").collect()
    // Partitions of 33, 33 and 34 rows.
    val blocks = Seq(0 until 20, 20 until 33, 33 until 53, 53 until 66, 66 until 86, 86 until 100)
    blocks.foreach { block =>
      val usable = block.filter(_ % 11 != 10)
      val mean = usable.sum.toFloat / usable.size
      block.foreach { id =>
        val row = result(id)
        if (usable.contains(id)) {
          assert(row.getAs[Int]("count") === usable.size)
          assert(math.abs(row.getAs[Float]("centred") - (id - mean)) < 1e-4)
        } else assert(row.getAs[String]("why") === "no value for the input x:0 (null)")
      }
    }
    assert(Blocks.mapBlocks(rows, ofRows, handleInvalid = Some("skip")).count() === 91)
    assert(failure(Blocks.mapBlocks(rows, ofRows, handleInvalid = Some("error")).collect()).getMessage
      .contains("in partition"))
  }

  test("mapBlocks with trim gives what the graph gives, of any number of rows") {
    val some = rows.filter(col("x").isNotNull)
    val result = Blocks.mapBlocks(some, graph("x")("first"), trim = true, batchSize = 1000)
    assert(result.columns === Array("first"))
    assert(result.collect().map(_.getFloat(0)).sorted === Array(0f, 1f, 33f, 34f, 66f, 67f))
    val vectors = Blocks.mapBlocks(some, graph("x")("first"), trim = true, outputMode = "vector")
    assert(vectors.head().getAs[Vector](0).size === 1)
    assert(failure(Blocks.mapBlocks(rows, graph("x")("first"), trim = true).collect()).getMessage ===
      "Cannot use the row 10 of a block: no value for the input x:0 (null). Set handleInvalid to \"skip\" to go on " +
      "without such rows.")
    assert(Blocks.mapBlocks(rows, graph("x")("first"), trim = true, handleInvalid = Some("skip"))
      .count() === 6)
  }

  test("without trim a graph must give as many rows as its block has") {
    val message = failure(Blocks.mapBlocks(rows, graph("x")("first")).collect()).getMessage
    assert(message.contains("has the shape [2] for"))
    assert(message.contains("runs through mapBlocks with trim"))
  }

  test("reduceBlocks gives one row, whatever the blocks") {
    Seq(1, 7, 33, 1000).foreach { size =>
      assert(Blocks.reduceBlocks(rows, reduction, batchSize = size) === Row(Seq(99L, 0L), 4950.0))
    }
    assert(intercept[IllegalArgumentException](Blocks.reduceBlocks(rows.limit(0), reduction)).getMessage ===
      "There is nothing to reduce: the DataFrame has no rows.")
  }

  test("reduceBlocks leaves out rows that cannot be used where it is told to") {
    val broken = rows.withColumn("total", when(col("id") < 98, col("total")))
    assert(failure(Blocks.reduceBlocks(
      broken,
      reduction)).getMessage.contains("Set handleInvalid to \"skip\""))
    assert(Blocks.reduceBlocks(broken, reduction, handleInvalid = "skip") === Row(Seq(97L, 0L), 4753.0))
    val none = rows.withColumn("total", lit(null).cast("double"))
    assert(Blocks.reduceBlocks(none, reduction, handleInvalid = "skip") === Row(null, null))
  }

  test("aggregate gives a row for each group, whatever the blocks") {
    val wanted = rows.groupBy("k").agg(
      array(max("id"), max(-col("id"))).as("most"),
      sum("total").as("total")).orderBy("k").collect()
    Seq(1, 2, 5, 1000).foreach { size =>
      val result = Blocks.aggregate(rows, Seq("k"), reduction, batchSize = size)
      assert(result.columns === Array("k", "most", "total"))
      assert(result.orderBy("k").collect() === wanted)
    }
  }

  test("aggregate takes for one group what groupBy does: nulls, NaN, and both zeros") {
    val key = when(col("id") % 4 === 0, lit(Double.NaN)).when(col("id") % 4 === 1, lit(-0.0))
      .when(col("id") % 4 === 2, lit(0.0))
    val keyed = rows.withColumn("a.b", key).withColumn("c", (col("id") % 2).cast("string"))
    val found = Blocks.aggregate(keyed, Seq("a.b", "c"), reduction, batchSize = 3)
    val wanted = keyed.groupBy("`a.b`", "c").agg(sum("total").as("total"))
    assert(found.count() === wanted.count())
    def sums(frame: DataFrame) = frame.select("c", "total").collect().map(_.toString).sorted
    assert(sums(found) === sums(wanted))
  }

  test("aggregate gives nulls for a group of which nothing is left") {
    val broken = rows.withColumn("total", when(col("k") =!= 3, col("total")))
    val found = Blocks.aggregate(broken, Seq("k"), reduction, handleInvalid = "skip", batchSize = 4)
    val row = found.filter(col("k") === 3).head()
    assert(row.isNullAt(1) && row.isNullAt(2))
    assert(found.filter(col("total").isNull).count() === 1)
  }

  test("what does not fit is refused before a job") {
    def refused(expected: String)(action: => Any) = assert(refusal(action).contains(expected))
    refused("The output x_sum has no input x_sum_input, which takes its rows; the nearest: x_input")(
      Blocks.reduceBlocks(rows, graph("x_input")("x_sum")))
    refused("handleInvalid cannot be \"keep\"")(Blocks.reduceBlocks(rows, reduction, handleInvalid = "keep"))
    refused("Column total does not exist")(Blocks.reduceBlocks(rows.drop("total"), reduction))
    refused("cast the column to double, or set castInputs")(
      Blocks.reduceBlocks(rows.withColumn("total", col("id")), reduction))
    refused("Column total already exists")(Blocks.aggregate(rows, Seq("total"), reduction))
    refused("aggregate needs a column to group by")(Blocks.aggregate(rows, Nil, reduction))
    refused("errorCol has no place")(
      Blocks.mapBlocks(rows, ofRows, trim = true, errorCol = Some("why")))
    refused(
      "The tensor total:0 of the model blocks has the shape [], but the first dimension must be open, for the rows. A graph " +
        "of one row runs through mapRows.")(
      Blocks.mapBlocks(rows.withColumnRenamed("total", "total_input"), graph("total_input")("total")))
  }

  test("a graph that reads files runs where both its reading and its stage allow it") {
    val file = Files.write(newFolder().resolve("five"), "12345".getBytes).toString
    val paths = rows.limit(1).select(lit(file).as("path"))
    def read(allowed: Boolean) =
      TFInputGraph.fromGraphDef(graphs("blocks.pb"), Seq("path"), Seq("length"), allowed)
    val refused = refusal(read(allowed = false))
    assert(refused.contains("ReadFile (node ReadFile), which is not allowed: it reaches beyond the graph"))
    assert(refused.contains("set allowUnsafeOps where you trust it"))
    assert(refusal(Blocks.mapRows(paths, read(allowed = true))) ===
      "The graph blocks runs operations that reach beyond it (files, processes, Python, network or queues): set " +
      "allowUnsafeOps where you trust it.")
    val lengths = Blocks.mapRows(paths, read(allowed = true), allowUnsafeOps = true)
    assert(lengths.head().getAs[Int]("length") === 5)
  }
}
