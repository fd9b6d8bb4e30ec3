package sparkdl.sql

import org.apache.spark.sql.{AnalysisException, DataFrame, Row}

import sparkdl._
import sparkdl.engine.{Native, PictureFunction}
import sparkdl.image.ImageIO

/** Pictures in SQL: decoded, resized, encoded, told of by their headers. */
class PictureFunctionsSuite extends SparkFixture {

  private lazy val pictures: DataFrame = {
    val session = spark
    import session.implicits._
    val bad = Map(4 -> null, 9 -> "no picture".getBytes)
    val rows = (0 until 40).map(seed =>
      (seed, bad.getOrElse(seed, if (seed % 2 == 0) Pictures.png(seed) else Pictures.jpeg(seed))))
    val frame = rows.toDF("id", "content").repartition(3).cache()
    frame.createOrReplaceTempView("files")
    frame
  }

  private def query(call: String): Map[Int, Any] = {
    pictures
    val found = spark.sql(s"SELECT id, $call AS out FROM files").collect()
    assert(found.length === 40 && found.filter(_.isNullAt(1)).map(_.getInt(0)).toSet === Set(4, 9))
    found.map(row => row.getInt(0) -> row.get(1)).toMap
  }

  test("decode_image gives what readImages gives, and NULL for what is no picture") {
    val folder = newFolder()
    pictures.collect().filterNot(_.isNullAt(1)).foreach { row =>
      java.nio.file.Files.write(folder.resolve(f"${row.getInt(0)}%02d"), row.getAs[Array[Byte]](1))
    }
    val read = ImageIO.readImages(folder.toString).select("image.*").collect()
      .map(row => row.getString(0).takeRight(2).toInt -> row.toSeq.tail.map(comparable)).toMap
    val decoded = query("decode_image(content)").collect { case (id, row: Row) =>
      assert(row.getString(0) === "")
      id -> row.toSeq.tail.map(comparable)
    }
    assert(decoded === (read - 9))
  }

  private def comparable(value: Any): Any = value match {
    case bytes: Array[Byte] => bytes.toSeq
    case other => other
  }

  test("resize_image gives this size by this filter, of files and of image structs") {
    val small = query("resize_image(content, 10, 20)").collect { case (id, row: Row) =>
      id -> row.toSeq.map(comparable)
    }
    assert(small.values.forall(_.slice(1, 4) === Seq(10, 20, 3)))
    val again = query("resize_image(decode_image(content), 10, 20, 'SCALE_SMOOTH')")
      .collect { case (id, row: Row) => id -> row.toSeq.map(comparable) }
    assert(again === small)
    val other = query("resize_image(content, 10, 20, 'SCALE_BICUBIC')")
      .collect { case (id, row: Row) => id -> row.toSeq.map(comparable) }
    assert(other(0) !== small(0))
  }

  test("encode_image writes files that decode to the same picture") {
    val decoded = query("decode_image(content)")
    Seq("png", "bmp", "webp", "tiff").foreach { format =>
      val again = query(s"decode_image(encode_image(decode_image(content), '$format'))")
      assert(again.keySet === decoded.keySet)
      decoded.foreach { case (id, row) =>
        assert(Option(again(id)).map(_.asInstanceOf[Row].toSeq.map(comparable)) ===
          Option(row).map(_.asInstanceOf[Row].toSeq.map(comparable)))
      }
      assert(query(s"image_info(encode_image(content, '$format')).format").values.toSet === Set[Any](
        format,
        null))
    }
    val (good, poor) =
      (query("length(encode_image(content, 'jpeg'))"), query("length(encode_image(content, 'jpeg', 10))"))
    assert(good.forall { case (id, size) =>
      size == null || size.asInstanceOf[Int] > poor(id).asInstanceOf[Int]
    })
    val written = query("encode_image(content, 'jpeg')").values.collect { case bytes: Array[Byte] => bytes }
    written.foreach { bytes =>
      val read = javax.imageio.ImageIO.read(new java.io.ByteArrayInputStream(bytes))
      assert((read.getWidth, read.getHeight) === ((48, 40)))
    }
  }

  test("image_info tells format and size by the header alone") {
    val found = query("image_info(content)")
    assert(found(0) === Row("png", 40, 48, 3) && found(1) === Row("jpeg", 40, 48, 3))
    assert(query("image_info(content).width").values.toSet === Set[Any](48, null))
    assert(query("image_info(substr(content, 1, 700))")(0) === Row("png", 40, 48, 3))
  }

  test("they stand anywhere in a query, run for many rows at once, and are shared") {
    pictures
    val frame = spark.sql(
      "SELECT image_info(content).width AS w, count(*) FROM files WHERE image_info(content).height > 3 " +
        "AND id > 3 GROUP BY image_info(content).width HAVING image_info(first(content)).width > 2 ORDER BY w")
    assert(frame.collect() === Array(Row(48, 34)))
    val nodes = "Pictures \\w+".r.findAllIn(frame.queryExecution.optimizedPlan.toString).toSeq
    assert(nodes === Seq("Pictures Info", "Pictures Info"))
    val decoding = spark.sql("SELECT decode_image(content) FROM files")
    val before = Native.calls()
    decoding.collect()
    val calls = Native.calls() - before
    val sizes = pictures.rdd.mapPartitions(rows => Iterator(rows.size)).collect()
    // For a batch: the log is started, the pictures are decoded, their memory is read and freed. The second count is one more.
    assert(calls === sizes.map(size => (size + 15) / 16).sum * 4L + 2)
    assert(spark.sql(
      "SELECT encode_image(resize_image(content, 8, 8), 'png') IS NULL FROM VALUES (X'00'), (NULL) t(content)")
      .collect().forall(_.getBoolean(0)))
    val twice = spark.sql("SELECT a.id FROM files a JOIN files b ON a.id = b.id AND " +
      "image_info(a.content) = image_info(b.content) AND length(concat(encode_image(a.content, 'png'), b.content)) > 0")
    assert(twice.count() === 38)
    assert(Native.liveHandles() === ((0L, 0L)))
  }

  test("a picture function and a model work on each other's results") {
    pictures
    val tiny = SparkFixture.fixture("bundles/tiny.sparkdl").toString
    val found = spark.sql(
      s"SELECT dl_predict('$tiny', decode_image(content)) = dl_predict('$tiny', content) FROM files WHERE id NOT IN (4, 9)")
    assert(found.collect().forall(_.getBoolean(0)))
  }

  test("wrong arguments are told when a query is analyzed") {
    pictures
    def said(call: String) = intercept[AnalysisException](spark.sql(s"SELECT $call FROM files")).getMessage
    assert(said("decode_image(id)").contains("must be of type binary but is actually int"))
    assert(
      said("image_info(decode_image(content))").contains("must be of type binary but is actually struct"))
    assert(said("resize_image(content, 0, 5)").contains("height must be from 1 to 16384 but was 0"))
    assert(said("resize_image(content, id, 5)").contains("must be literals"))
    assert(said("resize_image(content, 5)").contains("it takes (image, height, width[, scaleHint])"))
    assert(said("resize_image(content, 5, 5, 'SMOOTH')").contains("scaleHint cannot be \"SMOOTH\""))
    assert(said("encode_image(content, 'gif')").contains("it takes jpeg, png, bmp, webp, tiff"))
    assert(said("encode_image(content, 'jpeg', 0)").contains("quality must be from 1 to 100"))
    assert(said("encode_image(content)").contains("it takes (image, format[, quality])"))
    assert(said("transform(array(content), c -> decode_image(c))").contains("inside of a lambda function"))
    Seq("decode_image", "resize_image", "encode_image", "image_info").foreach { name =>
      val text = spark.sql(s"DESCRIBE FUNCTION EXTENDED $name").collect().map(_.getString(0)).mkString("\n")
      assert(text.contains(s"$name(") && text.contains(s"> SELECT $name("))
    }
    assert(PictureFunction.Info.toString === "Info")
  }
}
