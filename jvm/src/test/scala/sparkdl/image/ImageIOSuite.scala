package sparkdl.image

import java.nio.file.{Files, Path}

import org.apache.spark.ml.image.ImageSchema
import org.apache.spark.sql.{DataFrame, Row}

import sparkdl.{Pictures, SparkFixture}

/** Reading pictures, against Spark's own image source. */
class ImageIOSuite extends SparkFixture {

  private def write(folder: Path, name: String, bytes: Array[Byte]): Unit = {
    val file = folder.resolve(name)
    Files.createDirectories(file.getParent)
    Files.write(file, bytes)
  }

  /** Lossless pictures of one, three and four channels, photographs, and names that URLs must encode. */
  private lazy val folder: Path = {
    val folder = newFolder()
    (1 to 3).foreach(i => write(folder, s"colour $i.png", Pictures.png(i)))
    write(folder, "grün %20 #1.png", Pictures.png(4))
    write(folder, "plain.bmp", Pictures.encoded(Pictures.drawn(5), "bmp"))
    val grey = new java.awt.image.BufferedImage(30, 20, java.awt.image.BufferedImage.TYPE_BYTE_GRAY)
    grey.createGraphics().fillOval(3, 3, 20, 10)
    write(folder, "grey.png", Pictures.encoded(grey, "png"))
    val clear = new java.awt.image.BufferedImage(30, 20, java.awt.image.BufferedImage.TYPE_4BYTE_ABGR)
    for (y <- 0 until 20; x <- 0 until 30) clear.setRGB(x, y, (x * 8) << 24 | y << 16 | x << 8 | 77)
    write(folder, "clear.png", Pictures.encoded(clear, "png"))
    (1 to 2).foreach(i => write(folder, s"photo$i.jpg", Pictures.jpeg(i)))
    folder
  }

  private def byOrigin(frame: DataFrame): Map[String, Row] =
    frame.select("image").collect().map(_.getStruct(0)).map(image => image.getString(0) -> image).toMap

  test("schema and values are those of the image source") {
    val ours = ImageIO.readImages(folder.toString)
    val theirs = spark.read.format("image").load(folder.toString)
    assert(ours.schema === theirs.schema)
    val (mine, spark1) = (byOrigin(ours), byOrigin(theirs))
    assert(mine.keySet === spark1.keySet)
    assert(mine.size === 9)
    mine.foreach { case (origin, image) =>
      val other = spark1(origin)
      assert(image.toSeq.take(5) === other.toSeq.take(5), origin)
      val (a, b) = (ImageSchema.getData(image), ImageSchema.getData(other))
      assert(a.length === b.length, origin)
      val difference = a.zip(b).map { case (x, y) => math.abs((x & 0xff) - (y & 0xff)) }.max
      assert(difference <= (if (origin.endsWith("jpg")) 1 else 0), origin)
    }
  }

  private def damaged: Path = {
    val folder = newFolder()
    write(folder, "good.png", Pictures.png(1))
    write(folder, "truncated.jpg", Pictures.truncated(1))
    write(folder, "text.jpg", "no picture".getBytes)
    write(folder, "huge.png", Pictures.header(60000, 60000))
    folder
  }

  test("what cannot be decoded is Spark's invalid-image row, or dropped") {
    val path = damaged.toString
    val images = byOrigin(ImageIO.readImages(path))
    assert(images.size === 4)
    images.filterNot(_._1.endsWith("good.png")).foreach { case (origin, image) =>
      assert(image.toSeq.take(5) === Seq[Any](origin, -1, -1, -1, -1), origin)
      assert(ImageSchema.getData(image).isEmpty)
    }
    val kept = byOrigin(ImageIO.readImages(path, ImageReadOptions(dropInvalid = true)))
    assert(kept.keys.toSeq.map(_.split("/").last) === Seq("good.png"))
  }

  test("a picture above maxPixels is invalid") {
    val images = byOrigin(ImageIO.readImages(folder.toString, ImageReadOptions(maxPixels = 601)))
    assert(images.values.filter(ImageSchema.getHeight(_) > 0).map(ImageSchema.getHeight).toSet === Set(20))
  }

  test("folders below are read when asked for, globs always work, and folder names become columns") {
    val nested = newFolder()
    (1 to 4).foreach(i => write(nested, s"kind=${if (i > 2) "b" else "a"}/$i.png", Pictures.png(i)))
    write(nested, "deep/er/9.png", Pictures.png(9))
    assert(ImageIO.readImages(nested.toString, ImageReadOptions(recursive = true)).count() === 5)
    assert(ImageIO.readImages(s"$nested/kind=*/*.png").count() === 4)
    Files.delete(nested.resolve("deep/er/9.png"))
    Files.delete(nested.resolve("deep/er"))
    Files.delete(nested.resolve("deep"))
    val ours = ImageIO.readImages(nested.toString)
    assert(ours.schema === spark.read.format("image").load(nested.toString).schema)
    assert(ours.groupBy("kind").count().orderBy("kind").collect().map(_.toSeq) === Array(
      Seq[Any]("a", 2L),
      Seq[Any]("b", 2L)
    ))
  }

  test("a sample holds some of the files, the same for the same seed") {
    val many = newFolder()
    (1 to 60).foreach(i => write(many, s"$i.png", Pictures.png(i)))
    def sample(seed: Long) =
      byOrigin(ImageIO.readImages(many.toString, ImageReadOptions(sampleRatio = 0.5, seed = seed))).keySet
    assert(sample(1).size > 15 && sample(1).size < 45)
    assert(sample(1) === sample(1))
    assert(sample(1) !== sample(2))
  }

  test("the result has as many partitions as asked for, and reading starts no job") {
    val (frame, jobs) = countingJobs(ImageIO.readImages(folder.toString, ImageReadOptions(numPartitions = 5)))
    assert(jobs === 0)
    assert(frame.rdd.getNumPartitions === 5)
    assert(frame.count() === 9)
  }

  test("options out of range are refused") {
    assert(refusal(ImageReadOptions(sampleRatio =
      0
    )) === "sampleRatio must be above 0 and at most 1 but was 0.0.")
    assert(refusal(ImageReadOptions(sampleRatio =
      1.5
    )) === "sampleRatio must be above 0 and at most 1 but was 1.5.")
    assert(refusal(ImageReadOptions(numPartitions = -1)) === "numPartitions must be at least 0 but was -1.")
    assert(refusal(ImageReadOptions(maxPixels = 0)) === "maxPixels must be at least 1 but was 0.")
  }
}
