package sparkdl

import java.awt.Color
import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.nio.charset.StandardCharsets.US_ASCII
import java.util.zip.CRC32
import javax.imageio.ImageIO

import org.apache.spark.sql.Row
import org.apache.spark.sql.types.{BinaryType, IntegerType, StringType, StructField, StructType}

/** Pictures made for a test, encoded by Java. */
object Pictures {

  /** A gradient with a disc whose colour and place come from the seed. */
  def drawn(seed: Int, width: Int = 48, height: Int = 40): BufferedImage = {
    val random = new scala.util.Random(seed)
    val image = new BufferedImage(width, height, BufferedImage.TYPE_3BYTE_BGR)
    for (y <- 0 until height; x <- 0 until width)
      image.setRGB(x, y, new Color(x * 255 / width, y * 255 / height, (seed * 37) % 256).getRGB)
    val pen = image.createGraphics()
    pen.setColor(new Color(random.nextInt(256), random.nextInt(256), random.nextInt(256)))
    pen.fillOval(random.nextInt(width / 2), random.nextInt(height / 2), width / 2, height / 2)
    pen.dispose()
    image
  }

  def encoded(image: BufferedImage, format: String): Array[Byte] = {
    val out = new ByteArrayOutputStream()
    assert(ImageIO.write(image, format, out), s"Java writes no $format")
    out.toByteArray
  }

  def png(seed: Int): Array[Byte] = encoded(drawn(seed), "png")

  def jpeg(seed: Int): Array[Byte] = encoded(drawn(seed), "jpg")

  /** A JPEG file that ends in the middle of its pixels. */
  def truncated(seed: Int): Array[Byte] = {
    val whole = jpeg(seed)
    whole.take(whole.length / 2)
  }

  /** A PNG file of a few bytes whose header promises a picture of this size. */
  def header(width: Int, height: Int): Array[Byte] = {
    val shape = ByteBuffer.allocate(13).putInt(width).putInt(height).put(Array[Byte](8, 2, 0, 0, 0)).array
    Array(0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n').map(_.toByte) ++
      chunk("IHDR", shape) ++ chunk("IDAT", Array[Byte](0x78, 0x9c.toByte, 3, 0, 0, 0, 0, 1)) ++ chunk(
        "IEND",
        Array()
      )
  }

  /** Spark's image struct of a picture. */
  def struct(image: BufferedImage, origin: String): Row = {
    val bytes = for {
      y <- 0 until image.getHeight
      x <- 0 until image.getWidth
      shift <- Seq(0, 8, 16)
    } yield (image.getRGB(x, y) >> shift).toByte
    Row(origin, image.getHeight, image.getWidth, 3, 16, bytes.toArray)
  }

  /** Spark's row for what it could not decode. */
  def invalid(origin: String): Row = Row(origin, -1, -1, -1, -1, Array.emptyByteArray)

  /** Spark's image struct, spelled out. */
  val structType: StructType = StructType(
    Seq("origin" -> StringType, "height" -> IntegerType, "width" -> IntegerType, "nChannels" -> IntegerType)
      .map { case (name, kind) => StructField(name, kind) } ++
      Seq(StructField("mode", IntegerType), StructField("data", BinaryType))
  )

  private def chunk(name: String, data: Array[Byte]): Array[Byte] = {
    val body = name.getBytes(US_ASCII) ++ data
    val crc = new CRC32()
    crc.update(body)
    ByteBuffer.allocate(12 + data.length).putInt(data.length).put(body).putInt(crc.getValue.toInt).array
  }
}
