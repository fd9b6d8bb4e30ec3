package sparkdl.engine

import java.awt.Color

import org.apache.spark.sql.Row
import org.apache.spark.sql.types.BinaryType

class PictureFunctionSuite extends EngineFixture {
  private val most = 89478485L

  private def decode(pictures: Any*) =
    PictureFunction.Decode(BinaryType, pictures.toIndexedSeq, PictureFunction.decoding(most))

  test("pictures come back as Spark's image struct, bad ones with a reason") {
    val Seq((good: Row, none), (noRow, reason: String), (noRow2, reason2: String)) =
      decode(png(new Color(1, 2, 3), 5, 4), "no picture".getBytes, null): @unchecked
    assert(none == null)
    assert((1 to 4).map(good.getInt) == Seq(4, 5, 3, 16))
    assert(good.getAs[Array[Byte]](5).toSeq == Seq.fill(20)(Seq[Byte](3, 2, 1)).flatten)
    assert(noRow == null && reason.nonEmpty)
    assert(noRow2 == null && reason2.nonEmpty)
    assertNothingOpen()
  }

  test("no picture is no error") {
    assert(decode().isEmpty)
  }

  test("pictures are encoded, and headers are read, or there is a reason") {
    val options = Seq(
      "format" -> "png",
      "quality" -> "95",
      "maxPixels" -> most.toString,
      "applyExifOrientation" -> "false")
    val file = png(new Color(1, 2, 3), 5, 4)
    val Seq((written: Array[Byte], null), (null, why: String)) =
      PictureFunction.Encode(BinaryType, IndexedSeq(file, "none".getBytes), options): @unchecked
    assert(decode(written).map(_._1) == decode(file).map(_._1) && why.startsWith("not a picture"))
    val Seq((info: Row, null), (null, reason: String)) =
      PictureFunction.Info(BinaryType, IndexedSeq(file.take(60), Array.emptyByteArray), Nil): @unchecked
    assert(info == Row("png", 4, 5, 3) && reason == "empty value")
    assertNothingOpen()
  }
}
