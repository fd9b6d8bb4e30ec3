package sparkdl.engine

import java.awt.Color

import org.apache.spark.sql.Row

class ImageDecoderSuite extends EngineFixture {
  private val decode = Seq(
    "height" -> "0",
    "width" -> "0",
    "scaleHint" -> "SCALE_AREA_AVERAGING",
    "resizeMode" -> "stretch",
    "maxPixels" -> "89478485",
    "applyExifOrientation" -> "false",
    "fastDecode" -> "false"
  )

  test("pictures come back as Spark's image struct, bad ones with a reason") {
    val pictures = Array(png(new Color(1, 2, 3), 5, 4), "no picture".getBytes, null)
    val Array((good: Row, none), (noRow, reason), (noRow2, reason2)) =
      ImageDecoder.decode(pictures, decode): @unchecked
    assert(none == null)
    assert((1 to 4).map(good.getInt) == Seq(4, 5, 3, 16))
    assert(good.getAs[Array[Byte]](5).toSeq == Seq.fill(20)(Seq[Byte](3, 2, 1)).flatten)
    assert(noRow == null && reason.nonEmpty)
    assert(noRow2 == null && reason2.nonEmpty)
    assertNothingOpen()
  }

  test("no picture is no error") {
    assert(ImageDecoder.decode(Array.empty, decode).isEmpty)
  }
}
