package sparkdl.engine

import java.awt.Color
import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.nio.file.Paths
import javax.imageio.ImageIO

import org.apache.spark.sql.SparkSession
import org.scalatest.funsuite.AnyFunSuite

/** The tiny bundle of the fixtures (4 classes, 12 pooled features), and pictures for it. */
abstract class EngineFixture extends AnyFunSuite {

  protected lazy val spark: SparkSession = SparkSession.builder().getOrCreate()

  protected val tiny: String = Paths.get("tests/fixtures/bundles/tiny.sparkdl").toAbsolutePath.toString

  /** All options of the core's contract; the last of two values for a key counts. */
  protected def options(changes: (String, String)*): Seq[(String, String)] = {
    val all = Map(
      "model" -> tiny,
      "task" -> "predictions",
      "pooling" -> "avg",
      "topK" -> "2",
      "labels" -> "",
      "scaleHint" -> "SCALE_AREA_AVERAGING",
      "resizeMode" -> "stretch",
      "maxPixels" -> "89478485",
      "applyExifOrientation" -> "false",
      "fastDecode" -> "false",
      "threads" -> "1"
    )
    (all ++ changes).toSeq
  }

  /** A picture of one colour as PNG. */
  protected def png(color: Color, width: Int = 40, height: Int = 30): Array[Byte] = {
    val picture = new BufferedImage(width, height, BufferedImage.TYPE_3BYTE_BGR)
    val pen = picture.createGraphics()
    pen.setColor(color)
    pen.fillRect(0, 0, width, height)
    pen.dispose()
    val bytes = new ByteArrayOutputStream
    ImageIO.write(picture, "png", bytes)
    bytes.toByteArray
  }

  protected def assertNothingOpen(): Unit = {
    assert(Native.liveHandles() == ((0L, 0L)), "(models, results) open")
    assert(ArrowBridge.allocated == 0L, "off-heap bytes of Arrow")
  }
}
