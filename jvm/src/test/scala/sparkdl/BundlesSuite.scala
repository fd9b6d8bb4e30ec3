package sparkdl

import java.net.InetSocketAddress
import java.nio.file.{Files, Path, Paths}

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.ObjectMapper
import com.sun.net.httpserver.HttpServer
import org.apache.spark.ml.attribute.AttributeGroup
import org.apache.spark.sql.DataFrame

import sparkdl.engine.{Bundles, BundleSource, CacheFolder}
import sparkdl.ffi.{ErrorKind, SparkDLException}

/** How a stage finds the bundle that it runs. */
class BundlesSuite extends SparkFixture {

  private def stage =
    new DeepImageFeaturizer().setInputCol("picture").setOutputCol("out").setModelName("MobileNet")

  private lazy val pictures: DataFrame = {
    val session = spark
    import session.implicits._
    Seq(Pictures.png(1)).toDF("picture")
  }

  private def cached(name: String): Path = {
    val folder = Files.createDirectories(SparkFixture.cache.resolve("bundles"))
    Files.copy(Paths.get(tiny), folder.resolve(name))
  }

  private def withCacheDir[T](folder: Path)(action: => T): T = {
    val before = spark.conf.get("spark.sparkdl.cacheDir")
    spark.conf.set("spark.sparkdl.cacheDir", folder.toString)
    try action
    finally spark.conf.set("spark.sparkdl.cacheDir", before)
  }

  private def withMirror[T](url: String)(action: => T): T = {
    spark.conf.set("spark.sparkdl.weightsUrl", url)
    try action
    finally spark.conf.unset("spark.sparkdl.weightsUrl")
  }

  private def failure(action: => Any): String = intercept[SparkDLException](action).getMessage

  test("published weights are fetched from a mirror, and what is wrong with them is told") {
    val server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0)
    server.createContext(
      "/weights/",
      exchange => {
        val found = exchange.getRequestURI.getPath.endsWith("vgg16_weights_tf_dim_ordering_tf_kernels.h5")
        val body = "not the published bytes".getBytes
        exchange.sendResponseHeaders(if (found) 200 else 404, body.length)
        exchange.getResponseBody.write(body)
        exchange.close()
      }
    )
    server.start()
    val vgg = "weights/vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    try withMirror(s"http://127.0.0.1:${server.getAddress.getPort}/weights/") {
        val missing = failure(stage.transform(pictures))
        assert(missing.contains("/weights/mobilenet_1_0_224_tf.h5"))
        assert(missing.contains("404"))
        assert(missing.contains("spark.sparkdl.weightsUrl"))
        val wrong = failure(stage.setModelName("VGG16").transform(pictures))
        assert(wrong.contains("its md5 hash is not 64373286793e3c8b2b4e3219cbf3544b"))
        assert(!Files.exists(SparkFixture.cache.resolve(vgg)))
      }
    finally server.stop(0)
    val mirror = newFolder()
    Files.write(mirror.resolve(Paths.get(vgg).getFileName), "not the published bytes".getBytes)
    withMirror(mirror.toUri.toString) {
      val wrong = failure(stage.setModelName("VGG16").transform(pictures))
      assert(wrong.contains("is not the published file: its md5 is"))
      assert(failure(stage.setModelName("VGG19").transform(pictures)).contains("The mirror has no"))
    }
    assert(!Files.exists(SparkFixture.cache.resolve(vgg)))
  }

  test("without a cached bundle the message holds the command that makes it, and no job starts") {
    val mirror = newFolder()
    Files.write(mirror.resolve("mobilenet_1_0_224_tf.h5"), "these are no weights".getBytes)
    val message = withMirror(mirror.toUri.toString)(refusal(stage.transform(pictures)))
    assert(message.contains("No bundle of MobileNet with the weights imagenet is in the cache folder"))
    assert(message.contains("neither a .keras file (zip) nor an .h5 file (HDF5)"))
    assert(message.contains("python -m sparkdl export --model MobileNet --weights imagenet"))
    assert(message.contains(s"SPARKDL_CACHE_DIR=${SparkFixture.cache}"))
    Files.delete(SparkFixture.cache.resolve("weights/mobilenet_1_0_224_tf.h5"))
    val weights = newFolder().resolve("my weights.keras")
    Files.write(weights, "these are weights".getBytes)
    val own = refusal(stage.setWeights(weights.toString).transform(pictures))
    assert(own.contains(s"python -m sparkdl export --model MobileNet --weights '$weights'"))
    assert(own.contains(s"MobileNet-${CacheFolder.digest(Files.newInputStream(weights)).take(16)}.sparkdl"))
    assert(refusal(
      stage.setWeights("/none/such.keras").transform(pictures)
    ) === "The file /none/such.keras does not exist.")
  }

  test("a bundle exported from a weight file is found by the digest of that file, by path and by URI") {
    val weights = newFolder().resolve("mine.keras")
    Files.write(weights, "some weights".getBytes)
    val key = CacheFolder.digest(Files.newInputStream(weights)).take(16)
    cached(s"MobileNet-$key.sparkdl")
    Seq(weights.toString, weights.toUri.toString).foreach { place =>
      val result = stage.setWeights(place).transform(pictures)
      assert(AttributeGroup.fromStructField(result.schema("out")).size === 8)
      assert(result.head().getAs[org.apache.spark.ml.linalg.Vector]("out").size === 8)
    }
    Files.write(weights, "other weights of another length".getBytes)
    assert(refusal(stage.setWeights(weights.toString).transform(pictures)).contains("No bundle of MobileNet"))
  }

  test("a Keras file is read without Python, and gives what Keras gives") {
    val folder = SparkFixture.fixture("keras")
    val expected = new ObjectMapper().readTree(folder.resolve("expected.json").toFile)
    val session = spark
    import session.implicits._
    val files = (0 until 3).map(n => (n, Files.readAllBytes(folder.resolve(s"$n.png")))).toDF("n", "picture")
    Seq("mobilenet.keras", "mobilenet.h5").foreach { name =>
      val weights = folder.resolve(name)
      Seq("avg", "max").foreach { pooling =>
        val rows =
          stage.setWeights(weights.toString).setPooling(pooling).transform(files).orderBy("n").collect()
        rows.zipWithIndex.foreach { case (row, n) =>
          val found = row.getAs[org.apache.spark.ml.linalg.Vector]("out").toArray
          val wanted = expected.get(pooling).get(n).elements().asScala.map(_.asDouble).toArray
          assert(found.length === wanted.length)
          val furthest = found.zip(wanted).map { case (a, b) => math.abs(a - b) }.max
          assert(furthest <= 1e-4 * wanted.map(math.abs).max, s"$name $pooling")
        }
      }
    }
    val refused = refusal(stage.setModelName("VGG16").setWeights(folder.resolve("mobilenet.h5").toString)
      .transform(files))
    assert(refused.contains("It could not be made here: "))
    assert(refused.contains("mobilenet.h5: it is no VGG16: it has no feature map block5_pool."))
    assert(refused.contains("python -m sparkdl export --model VGG16"))
  }

  test("the built-in models are listed with their size") {
    val model = NamedModels.find("MobileNetV2_0.35").get
    assert((model.height, model.width, model.features) === ((224, 224, Seq(7, 7, 1280))))
    assert((model.parameters, model.license) === ((1691208L, "Apache-2.0")))
    assert(NamedModels.names === NamedModels.all.map(_.name))
  }

  test("the published weights are found by the hash of the table") {
    val model = NamedModels.find("VGG16").get
    cached(s"VGG16-${model.bundleKey}.sparkdl")
    val result = stage.setModelName("VGG16").transform(pictures)
    assert(result.head().getAs[org.apache.spark.ml.linalg.Vector]("out").size === 8)
  }

  test("a stage of published weights is saved without its bundle, one of other weights with it") {
    val folder = newFolder()
    stage.write.save(folder.resolve("published").toString)
    assert(!Files.exists(folder.resolve("published/bundle")))
    assert(!SavedStage.readMetadata(folder.resolve("published").toString, spark).has("bundle"))
    val message = intercept[IllegalArgumentException] {
      stage.setWeights("/none/such.keras").write.save(folder.resolve("own").toString)
    }.getMessage
    assert(message === "The file /none/such.keras does not exist.")
    stage.setModelName(tiny).write.save(folder.resolve("tiny").toString)
    assert(Files.exists(folder.resolve("tiny/bundle")))
  }

  test("bundles of several chunks are saved and loaded whole") {
    val file = newFolder().resolve("large.bin")
    val bytes = new Array[Byte]((8 << 20) * 2 + 12345)
    new scala.util.Random(1).nextBytes(bytes)
    Files.write(file, bytes)
    val digest = CacheFolder.digest(Files.newInputStream(file))
    val path = newFolder().resolve("bundle").toString
    SavedBundle.write(engine.Bundle(file, digest), new Bundles(spark), path, spark)
    val chunks = spark.read.parquet(path).orderBy("chunk").collect()
    assert(chunks.map(_.getInt(0)) === Array(0, 1, 2))
    assert(chunks.map(_.getAs[Array[Byte]](1).length) === Array(8 << 20, 8 << 20, 12345))
    val read = SavedBundle.read(digest, path, spark)
    assert(java.util.Arrays.equals(Files.readAllBytes(read.file), bytes))
  }

  test("a cache folder that cannot be written ends in an error that says what to set") {
    val file = newFolder().resolve("file")
    Files.write(file, Array[Byte](1))
    withCacheDir(file) {
      val error = intercept[SparkDLException](stage.setModelName(tiny).transform(pictures))
      assert(error.kind() === ErrorKind.Io)
      assert(error.getMessage.startsWith(s"Cannot write to the cache folder $file: "))
      assert(error.getMessage.endsWith(
        "Set spark.sparkdl.cacheDir (or the environment variable SPARKDL_CACHE_DIR) to a folder that this user can write."
      ))
    }
  }

  test("a bundle is copied once, and a changed one is noticed") {
    val cache = newFolder()
    val bundle = Files.copy(Paths.get(tiny), newFolder().resolve("model.sparkdl"))
    withCacheDir(cache) {
      val bundles = new Bundles(spark)
      val first = bundles.resolve(BundleSource.File(bundle.toString))
      val written = Files.getLastModifiedTime(first.file)
      assert(bundles.resolve(BundleSource.File(bundle.toUri.toString)) === first)
      assert(Files.getLastModifiedTime(first.file) === written)
      Files.write(bundle, Files.readAllBytes(bundle) :+ 0.toByte)
      assert(bundles.resolve(BundleSource.File(bundle.toString)).digest !== first.digest)
      assert(Files.list(cache.resolve("stages")).count() === 2)
    }
  }
}
