package sparkdl

import java.nio.file.{Files, Path, Paths}
import java.util.concurrent.{CountDownLatch, Executors}

import scala.concurrent.{Await, ExecutionContext, Future}
import scala.concurrent.duration.DurationInt
import scala.jdk.CollectionConverters._

import org.apache.spark.SparkException
import org.apache.spark.ml.attribute.AttributeGroup
import org.apache.spark.ml.image.ImageSchema
import org.apache.spark.ml.linalg.Vector
import org.apache.spark.sql.{DataFrame, Row, SaveMode}
import org.apache.spark.sql.functions.{col, input_file_name}
import org.apache.spark.sql.streaming.Trigger
import org.apache.spark.sql.types.StructType

import sparkdl.engine.Native
import sparkdl.ffi.ErrorKind

/** The models scores.keras and painter.keras, of RGB pictures of any size: two scores, and a picture of that size. */
class KerasImageFileTransformerSuite extends KerasFixture {

  private def stage = new KerasImageFileTransformer()
    .setInputCol("uri").setOutputCol("out").setModelFile(keras("scores.keras").toString).setInputSize(Array(
      8,
      8))

  private def painter = stage.setModelFile(keras("painter.keras").toString)

  private def files(uris: String*): DataFrame = {
    val session = spark
    import session.implicits._
    uris.zipWithIndex.toDF("uri", "id").coalesce(1)
  }

  /** A folder of pictures with names that a URI would spell otherwise. */
  private lazy val folder: Path = {
    val made = newFolder()
    (0 until 8).foreach(n => Files.write(made.resolve(s"no $n %41 [é].png"), Pictures.png(n)))
    Files.write(made.resolve("text.png"), "no picture".getBytes)
    made
  }

  private def picture(n: Int): String = folder.resolve(s"no $n %41 [é].png").toString

  private def vectors(frame: DataFrame): Seq[Seq[Double]] =
    frame.orderBy("id").collect().toSeq.map(row => flat(row.getAs[Any]("out")))

  test(
    "a model gives for a file what Keras gives for its pixels, as a vector with its size and as an array") {
    val small = files(keras("small.png").toString)
    val wanted = numbers(expected("pictures.json").get("scores").get(0))
    val result = stage.transform(small)
    assert(AttributeGroup.fromStructField(result.schema("out")).size === 2)
    assertClose(result.head().getAs[Vector]("out").toArray.toSeq, wanted)
    assertClose(flat(stage.setOutputMode("array").transform(small).head().getSeq[Float](2)), wanted)
  }

  test("a picture comes out as Spark's image struct of floats, BGR, named after its file") {
    val uri = keras("small.png").toUri.toString
    val result = painter.setOutputMode("image").transform(files(uri))
    assert(result.schema("out").dataType === StructType(ImageSchema.columnSchema.fields.map(_.copy(nullable =
      true))))
    val image = result.head().getAs[Row]("out")
    assert(image.toSeq.init === Seq[Any](uri, 8, 8, 3, 21))
    val floats =
      java.nio.ByteBuffer.wrap(image.getAs[Array[Byte]]("data")).order(java.nio.ByteOrder.LITTLE_ENDIAN)
    val bgr = Seq.fill(8 * 8 * 3)(floats.getFloat().toDouble)
    assertClose(
      bgr.grouped(3).flatMap(_.reverse).toSeq,
      numbers(expected("pictures.json").get("painter").get(0)))
    assert(AttributeGroup.fromStructField(painter.transform(files(uri)).schema("out")).size === 192)
  }

  test("names with blanks, percent signs and brackets are files, with and without scheme, and as Spark spells them") {
    val plain = vectors(stage.transform(files((0 until 8).map(picture): _*)))
    assert(plain.distinct.size === 8)
    assert(vectors(stage.transform(files((0 until 8).map("file:" + picture(_)): _*))) === plain)
    val spelled = spark.read.format("binaryFile").load(folder.toString).where("path like '%no %'")
      .select(col("path"), input_file_name().as("encoded"))
    Seq("path", "encoded").foreach { name =>
      val listed = spelled.select(col(name).as("uri")).collect().map(_.getString(0)).sorted
      assert(vectors(stage.transform(files(listed.toIndexedSeq: _*))) === plain, name)
    }
  }

  test("order, batches and partitions change nothing") {
    val order = Seq(5, 2, 7, 0, 1, 6, 3, 4)
    val frame = files(order.map(picture): _*)
    val expected = vectors(stage.transform(frame))
    assert(stage.transform(frame).collect().map(_.getString(0)) === order.map(picture).toArray)
    // The last bits depend on how many pictures are run together, on some processors.
    for (partitions <- Seq(1, 3); batch <- Seq(1, 3, 64))
      vectors(stage.setBatchSize(batch).transform(frame.repartition(partitions))).zip(expected).foreach {
        case (found, wanted) => assertClose(found, wanted)
      }
    assert(stage.transform(frame.limit(0)).collect().isEmpty)
    assert(stage.transform(frame.filter("id = 2").repartition(8)).count() === 1)
  }

  private def bad: Seq[(String, String)] = {
    val large = folder.resolve("large.png")
    if (!Files.exists(large)) {
      val file = new java.io.RandomAccessFile(large.toFile, "rw")
      try file.setLength((256L << 20) + 1)
      finally file.close()
    }
    Seq(
      "/none/such.png" -> "/none/such.png: there is no such file",
      folder.toString -> s"$folder: it is a folder",
      large.toString -> s"$large: it is larger than 268435456 bytes",
      "none:/scheme.png" -> "none:/scheme.png: it cannot be read: No FileSystem for scheme \"none\"",
      "" -> ": it cannot be read: Can not create a Path from an empty string",
      folder.resolve("text.png").toString -> s"${folder.resolve("text.png")}: ",
      null.asInstanceOf[String] -> "null"
    )
  }

  test(
    "a file that cannot be read or decoded is a row with a reason that names it, between rows that are fine") {
    val uris = bad.map(_._1).flatMap(uri => Seq(picture(1), uri)) :+ picture(2)
    val rows = stage.setErrorCol("why").setBatchSize(3).transform(files(uris: _*)).collect()
    assert(rows.map(_.getString(0)).toSeq === uris)
    bad.zipWithIndex.foreach { case ((_, reason), n) =>
      val (good, row) = (rows(2 * n), rows(2 * n + 1))
      assert(!good.isNullAt(2) && good.isNullAt(3))
      assert(row.isNullAt(2) && row.getString(3).startsWith(reason), row)
    }
    assert(stage.setHandleInvalid("skip").transform(files(uris: _*)).count() === bad.size + 1)
    val images = painter.setOutputMode("image").transform(files("/none/such.png", picture(1))).collect()
    assert(images.map(_.isNullAt(2)) === Array(true, false))
  }

  test("\"error\" stops the job and names the file") {
    val gone =
      failure(stage.setHandleInvalid("error").transform(files(picture(1), "/none/such.png")).collect())
    assert(gone.kind() === ErrorKind.InvalidRow)
    assert(gone.getMessage === "Cannot use the picture /none/such.png: there is no such file. Set handleInvalid to " +
      "\"keep\" or \"skip\" to go on without it.")
    val text = folder.resolve("text.png")
    val undecodable = failure(stage.setHandleInvalid("error").transform(files(text.toString)).collect())
    assert(undecodable.getMessage.startsWith(s"Cannot use the picture $text: "))
    val nameless = failure(stage.setHandleInvalid("error").transform(files(picture(1), null)).collect())
    assert(
      nameless.getMessage.startsWith("Cannot use the picture in partition 0, row 1: null. Set handleInvalid"))
  }

  private def watched[T](action: => T): T = {
    spark.sparkContext.hadoopConfiguration.set("fs.watched.impl", classOf[WatchedFileSystem].getName)
    Seq(WatchedFileSystem.opened, WatchedFileSystem.mostOpening).foreach(_.set(0))
    try action
    finally spark.sparkContext.hadoopConfiguration.unset("fs.watched.impl")
  }

  private def readers: Int =
    Thread.getAllStackTraces.keySet.asScala.count(thread =>
      thread.isAlive && thread.getName.startsWith("sparkdl-files"))

  test("files are read several at a time, and no further ahead of a limit than a batch") {
    watched {
      val many = files((0 until 400).map(n => "watched:" + picture(n % 8)): _*)
      assert(stage.setBatchSize(4).transform(many).limit(2).collect().length === 2)
      assert(WatchedFileSystem.opened.get <= 8, "files opened for two rows in batches of four")
      assert(readers === 0)
      WatchedFileSystem.gate = new CountDownLatch(1)
      val held = (0 until 4).map(n => Files.copy(Paths.get(picture(n)), folder.resolve(s"held-$n.png")))
      val together =
        Future(stage.transform(files(held.map("watched:" + _): _*)).collect())(ExecutionContext.global)
      val deadline = 60.seconds.fromNow
      while (WatchedFileSystem.mostOpening.get < 4 && deadline.hasTimeLeft()) Thread.sleep(10)
      WatchedFileSystem.gate.countDown()
      assert(Await.result(together, 60.seconds).forall(!_.isNullAt(2)))
      assert(WatchedFileSystem.mostOpening.get === 4)
      assert(readers === 0)
    }
  }

  test("a task that is killed while it waits for a file ends, and leaves no thread and nothing open") {
    watched {
      WatchedFileSystem.gate = new CountDownLatch(1)
      val held = Files.copy(Paths.get(picture(1)), folder.resolve("held.png"))
      val frame = stage.transform(files(picture(1), "watched:" + held))
      implicit val threads: ExecutionContext = ExecutionContext.fromExecutor(Executors.newCachedThreadPool())
      val waiting = Future {
        spark.sparkContext.setJobGroup("waiting", "killed by the test", interruptOnCancel = false)
        frame.collect()
      }
      val deadline = 60.seconds.fromNow
      while (WatchedFileSystem.opening.get < 1 && deadline.hasTimeLeft()) Thread.sleep(10)
      spark.sparkContext.cancelJobGroup("waiting")
      intercept[SparkException](Await.result(waiting, 60.seconds))
      while (readers > 0 && deadline.hasTimeLeft()) Thread.sleep(10)
      assert(readers === 0)
      assert(Native.liveHandles() === ((0L, 0L)))
      assert(WatchedFileSystem.gate.getCount === 1)
    }
  }

  test("a stream of names gives what the same names give at rest") {
    val path = newFolder().resolve("names").toString
    val names = files((0 until 8).map(picture): _*)
    names.write.mode(SaveMode.Overwrite).parquet(path)
    val moving = stage.transform(spark.readStream.schema(names.schema).parquet(path))
    val query = moving.writeStream.format("memory").queryName("names").trigger(Trigger.AvailableNow()).start()
    query.awaitTermination()
    assert(vectors(spark.table("names")) === vectors(stage.transform(names)))
  }

  test("preprocessing and channel order are what Keras' preprocess_input does, and caffe means BGR unless told otherwise") {
    def scores(change: KerasImageFileTransformer => KerasImageFileTransformer) =
      vectors(change(stage).transform(files(picture(3)))).head
    val ways = Seq("none", "tf", "caffe", "torch").map(way => scores(_.setPreprocessing(way)))
    assert(ways.distinct.size === 4)
    assert(scores(_.setPreprocessing("caffe").setChannelOrder("BGR")) === ways(2))
    assert(scores(_.setPreprocessing("caffe").setChannelOrder("RGB")) !== ways(2))
    assert(scores(_.setChannelOrder("BGR")) !== ways.head)
    assert(scores(_.setScaleHint("SCALE_BICUBIC")) !== ways.head)
  }

  test("a model of one channel takes grey pictures, without being told") {
    val grey = new KerasImageFileTransformer().setInputCol("uri").setOutputCol("out")
      .setModelFile(keras("grey.keras").toString)
    val frame = files(keras("grey.png").toString, picture(1))
    val found = grey.transform(frame)
    assertClose(vectors(found).head, numbers(expected("grey.json")))
    assert(vectors(grey.setChannelOrder("L").transform(frame)) === vectors(found))
    assert(refusal(grey.setChannelOrder("BGR").transform(frame)).endsWith(
      " takes 1 channel, but channelOrder is BGR: leave channelOrder unset."
    ))
    assert(refusal(grey.setChannelOrder("L").setPreprocessing("torch").transform(frame)).endsWith(
      "takes 1 channel, but preprocessing torch needs 3: set preprocessing to \"none\" or \"tf\"."
    ))
  }

  test("models that take no picture, and params that do not go with a model, are refused before any job") {
    val frame = files(picture(1))
    def of(change: KerasImageFileTransformer => Any): String = {
      val changed = stage
      change(changed)
      refusal(changed.transform(frame))
    }
    assert(of(_.setModelFile(keras("tensors.keras").toString)) ===
      "The model functional_1 has 2 inputs (tokens, vector) but KerasImageFileTransformer takes models of one: use " +
      "KerasTransformer.")
    assert(of(s =>
      s.clear(s.inputSize)) === "The model functional_2 takes pictures of any size: set inputSize.")
    assert(of(_.setChannelOrder("L")) ===
      "The model functional_2 takes 3 channels, but channelOrder is L: leave channelOrder unset.")
    assert(of(_.setOutputMode(
      "image")) === "The output scores of the model functional_2 has the shape [2], but outputMode " +
      "image needs [height, width, 1, 3 or 4]: set outputMode to \"vector\" or \"array\".")
    val fixed = keras("mobilenet.keras").toString
    assert(of(_.setModelFile(fixed)).endsWith(
      "takes pictures of 32 x 32, but inputSize is 8 x 8: leave inputSize unset."))
    assert(of(_.setModelFile(
      tiny)) === s"KerasImageFileTransformer takes models on tensors, but $tiny is a bundle for " +
      "pictures: use it as modelName of DeepImageFeaturizer or DeepImagePredictor.")
    assert(refusal(
      new DeepImagePredictor().setInputCol("uri").setOutputCol("out").setModelName(tiny).transform(frame))
      .startsWith("Column uri must be of type binary or image"))
  }

  test("a saved stage has its bundle with it, with the size of its pictures") {
    val path = newFolder().resolve("stage").toString
    val file = Files.copy(keras("scores.keras"), newFolder().resolve("mine.keras"))
    val frame = files((0 until 8).map(picture): _*)
    val saved = stage.setModelFile(file.toString)
    val expected = vectors(saved.transform(frame))
    saved.write.save(path)
    Files.delete(file)
    val loaded = KerasImageFileTransformer.load(path)
    assert(vectors(loaded.transform(frame)) === expected)
    assert(loaded.getInputSize === Array(8, 8))
    assert(refusal(loaded.setInputSize(Array(16, 16)).transform(frame)) === s"The file $file does not exist.")
  }
}
