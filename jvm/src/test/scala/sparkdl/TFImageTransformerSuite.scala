package sparkdl

import java.io.ByteArrayInputStream
import javax.imageio.ImageIO

import org.apache.spark.ml.linalg.{DenseVector, Vector}
import org.apache.spark.sql.{DataFrame, Row}
import org.apache.spark.sql.functions.{col, lit, when}
import org.apache.spark.sql.types._

/** The graph pictures.pb: pictures of any size in; their edges (uint8), means, brightest channel and themselves out. */
class TFImageTransformerSuite extends KerasFixture {
  import TFInputGraphSuite.graphs

  private lazy val graph = TFInputGraph.fromGraphDef(
    graphs("pictures.pb"),
    Seq("pictures"),
    Seq("edges", "means", "brightest", "same"))

  private lazy val rows: DataFrame = {
    val session = spark
    import session.implicits._
    (0 until 4).map(seed => (seed, Pictures.png(seed))).toDF("id", "picture")
  }

  private def stage: TFImageTransformer = new TFImageTransformer().setInputCol("picture").setGraph(graph)

  /** Red, green and blue of each pixel, row by row, and the size. */
  private def pixels(seed: Int): (Seq[Seq[Int]], Int, Int) = {
    val image = ImageIO.read(new ByteArrayInputStream(Pictures.png(seed)))
    val all = for (y <- 0 until image.getHeight; x <- 0 until image.getWidth) yield {
      val rgb = image.getRGB(x, y)
      Seq(rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255)
    }
    (all, image.getHeight, image.getWidth)
  }

  test("several outputs of different types, each its own column") {
    val result = stage.setOutputMapping(Map("means" -> "m", "brightest:0" -> "b")).setOutputMode("array")
      .transform(rows)
    assert(result.columns === Array("id", "picture", "b", "m"))
    assert(result.schema("m").dataType === ArrayType(FloatType, containsNull = false))
    assert(result.schema("b").dataType === LongType)
    result.orderBy("id").collect().foreach { row =>
      val (all, _, _) = pixels(row.getInt(0))
      val means = (0 until 3).map(channel => all.map(_(channel)).sum.toDouble / all.size)
      assertClose(flat(row.getAs[Any]("m")), means)
      assert(row.getLong(2) === means.indexOf(means.max))
    }
  }

  test("pictures come back as pictures of their own size, with the bytes of BGR or the floats") {
    val floats = stage.setOutputCol("out").setOutputTensor("same").setOutputMode("image").transform(rows)
    val bytes = stage.setOutputCol("out").setOutputTensor("edges").setOutputMode("image").transform(rows)
    floats.orderBy("id").collect().zip(bytes.orderBy("id").collect()).foreach { case (same, edges) =>
      val (all, height, width) = pixels(same.getInt(0))
      def about(row: Row) = row.getStruct(2).toSeq.slice(1, 5)
      assert(about(same) === Seq(height, width, 3, 21))
      assert(about(edges) === Seq(height, width, 3, 16))
      val data = java.nio.ByteBuffer.wrap(same.getStruct(2).getAs[Array[Byte]](5))
        .order(java.nio.ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
      val found = Seq.fill(data.remaining)(data.get()).grouped(3).map(_.reverse.map(_.toInt)).toSeq
      assert(found === all)
      assert(edges.getStruct(2).getAs[Array[Byte]](5).length === height * width * 3)
    }
  }

  test("a size resizes pictures, and channels come in the order that is asked for") {
    val sized = stage.setOutputCol("out").setOutputTensor("same").setInputSize(Array(4, 6)).transform(rows)
    assert(sized.head().getAs[Vector]("out").size === 4 * 6 * 3)
    def means(order: String) = stage.setOutputCol("out").setOutputTensor("means").setChannelOrder(order)
      .transform(rows).orderBy("id").collect().toSeq.map(_.getAs[DenseVector]("out").values.toSeq)
    assert(means("RGB") === means("BGR").map(_.reverse))
  }

  test("a row without a picture keeps its place, with a reason") {
    val broken = rows.withColumn(
      "picture",
      when(col("id") === 1, lit("text".getBytes)).otherwise(
        when(col("id") =!= 2, col("picture"))))
    Seq("vector", "array", "image").foreach { mode =>
      val found = stage.setOutputCol("out").setOutputTensor("same").setOutputMode(mode).setErrorCol("why")
        .transform(broken).orderBy("id").collect()
      assert(found.filter(_.isNullAt(2)).map(_.getInt(0)) === Array(1, 2))
      assert(found.filterNot(_.isNullAt(3)).map(_.getInt(0)) === Array(1, 2))
    }
  }

  test("what does not fit is refused before a job") {
    def refused(expected: String)(change: TFImageTransformer => TFImageTransformer): Unit =
      assert(refusal(change(stage).transform(rows)).contains(expected))
    refused("has 4 outputs (edges:0, means:0, brightest:0, same:0): set outputTensor or outputMapping")(
      identity)
    refused("no output edge; the nearest: edges:0")(_.setOutputTensor("edge"))
    refused("no input picture; the nearest: pictures:0")(_.setOutputTensor("same").setInputTensor("picture"))
    refused("the shape [any, any, 3], but channelOrder L has 1: set channelOrder")(
      _.setOutputTensor("same").setChannelOrder("L"))
    refused("the shape [3] and the type float32, but outputMode image needs [height, width, 1, 3 or 4]")(
      _.setOutputTensor("means").setOutputMode("image"))
    refused("takes either outputTensor or outputMapping, but both are set")(
      _.setOutputTensor("means").setOutputMapping(Map("same" -> "out")))
    refused("or the path of a bundle (*.sparkdl) but was graph.pb")(_.setGraph("graph.pb"))
    refused("is a network for pictures")(_.setGraph(tiny))
  }
}
