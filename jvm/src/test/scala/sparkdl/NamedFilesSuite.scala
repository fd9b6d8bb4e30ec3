package sparkdl

import java.nio.file.{Files, Path, Paths}

import org.apache.spark.ml.attribute.AttributeGroup
import org.apache.spark.ml.linalg.Vector
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions.expr

import sparkdl.engine.{CacheFolder, Manifest, PictureManifest}
import sparkdl.ffi.{ErrorKind, SparkDLArgumentException}

/** Keras files of any model, layers by name, and files pinned by their digest. */
class NamedFilesSuite extends KerasFixture {

  private lazy val pictures: DataFrame = {
    val session = spark
    import session.implicits._
    Seq(Files.readAllBytes(keras("0.png"))).toDF("picture")
  }

  private lazy val tensors: DataFrame =
    spark.range(1).select(expr("array(1, 2, 3, 4) as tokens"), expr("array(1f, 2f, 3f) as vector"))

  private def transformer(file: String) = new KerasTransformer().setInputCols(Array("tokens", "vector"))
    .setOutputNames(Array("score")).setOutputCol("out").setModelFile(file)

  private def featurizer =
    new DeepImageFeaturizer().setInputCol("picture").setOutputCol("out").setModelName("MobileNet")

  private def weights: String = keras("mobilenet.keras").toString

  private def digest(file: String): String = CacheFolder.digest(Files.newInputStream(Paths.get(file)))

  private def cached(name: String): Path = SparkFixture.cache.resolve("bundles").resolve(name)

  test("the bundle of a Keras file lies in the cache by the file's name and digest, and is made once") {
    val file = Files.copy(keras("tensors.keras"), newFolder().resolve("my model (v2).keras")).toString
    val stage = transformer(file)
    val first = stage.transform(tensors).head().getSeq[Float](2)
    val bundle = cached(s"my_model__v2_-${digest(file).take(16)}.sparkdl")
    val made = Files.getLastModifiedTime(bundle)
    assert(transformer("file:" + file).transform(tensors).head().getSeq[Float](2) === first)
    assert(Files.getLastModifiedTime(bundle) === made)
    assert(transformer(bundle.toString).transform(tensors).head().getSeq[Float](2) === first)
  }

  test("a cache folder with a blank and a percent sign in its name is a folder like any other") {
    val before = spark.conf.get("spark.sparkdl.cacheDir")
    val odd = newFolder().resolve("a b%20c")
    spark.conf.set("spark.sparkdl.cacheDir", odd.toString)
    try assert(
        transformer(keras("tensors.keras").toString).transform(tensors).filter("out is null").count() === 0)
    finally spark.conf.set("spark.sparkdl.cacheDir", before)
    assert(Files.list(odd.resolve("bundles")).count() === 1)
  }

  test("a size of pictures that the model leaves open is part of the bundle's name") {
    val file = keras("scores.keras").toString
    val session = spark
    import session.implicits._
    val stage = new KerasImageFileTransformer().setInputCol("uri").setOutputCol("out").setModelFile(file)
    assert(stage.setInputSize(Array(
      9,
      7)).transform(Seq(keras("0.png").toString).toDF("uri")).filter("out is null")
      .count() === 0)
    assert(Files.exists(cached(s"scores-${digest(file).take(16)}-9x7.sparkdl")))
  }

  test("a Keras file that the native reader refuses is told with the layer, the reason and the way out") {
    val file = keras("lambda.keras").toString
    val message = refusal(transformer(file).transform(tensors))
    val bundle = cached(s"lambda-${digest(file).take(16)}.sparkdl")
    assert(message.startsWith(
      s"No bundle of the Keras file $file is in the cache folder: $bundle is missing. It could not " +
        "be made here: "))
    assert(message.contains(s"Cannot build the layer doubled (Lambda) of $file"), message)
    assert(message.contains(s"  python -m sparkdl export --tensors --model $file --output $bundle\n"))
    assert(refusal(
      transformer("/none/such.keras").transform(tensors)) === "The file /none/such.keras does not exist.")
    val folder = newFolder()
    val text = Files.write(folder.resolve("text.h5"), "no model".getBytes).toString
    assert(refusal(
      transformer(text).transform(tensors)).contains("neither a .keras file (zip) nor an .h5 file (HDF5)"))
  }

  test("features are the output of the layer that is named, pooled or whole") {
    val layer = "conv_pw_3_relu"
    val stage = featurizer.setWeights(weights).setFeatureLayer(layer)
    val bundle = cached(s"MobileNet-${digest(weights).take(16)}-$layer.sparkdl")
    assert(!Files.exists(bundle))
    def features(pooling: String) =
      stage.setPooling(pooling).transform(pictures).head().getAs[Vector]("out").toArray
    val whole = features("none")
    val made = manifest(bundle)
    assert(made.featureLayer === Some(layer))
    assert(whole.length === made.sizes("features"))
    val channels = whole.grouped(made.sizes("featuresAvg")).toArray.transpose
    assertClose(features("avg").toSeq, channels.map(c => c.sum / c.length).toSeq)
    assertClose(features("max").toSeq, channels.map(_.max).toSeq)
    assert(AttributeGroup.fromStructField(stage.transform(pictures).schema("out")).size === channels.length)
    assert(stage.setPooling("avg").transform(pictures).head().getAs[Vector]("out") !==
      featurizer.setWeights(weights).transform(pictures).head().getAs[Vector]("out"))
  }

  private def manifest(bundle: Path): PictureManifest =
    Manifest.read(Files.newInputStream(bundle), bundle.toString).asInstanceOf[PictureManifest]

  test("a layer that a model does not have is told with names that are close") {
    val message =
      refusal(featurizer.setWeights(weights).setFeatureLayer("conv_pw_3_rely").transform(pictures))
    assert(message.contains("conv_pw_3_rely") && message.contains("conv_pw_3_relu"), message)
    assert(message.contains(s"--model MobileNet --weights $weights --feature-layer conv_pw_3_rely"))
  }

  test(
    "another layer of published weights is told of no size before its bundle is there, and nothing is fetched") {
    spark.conf.set("spark.sparkdl.weightsUrl", "file:///none")
    try {
      val schema = featurizer.setModelName(
        "ResNet50").setFeatureLayer("conv4_block6_out").transformSchema(pictures.schema)
      assert(AttributeGroup.fromStructField(schema("out")).size === -1)
    } finally spark.conf.unset("spark.sparkdl.weightsUrl")
  }

  test("a bundle has the features that it was made with") {
    val asked = featurizer.setModelName(tiny).setFeatureLayer("mixed7")
    assert(refusal(asked.transform(
      pictures)) === s"The bundle $tiny has the features of its layer unknown, but featureLayer " +
      "is mixed7: leave featureLayer unset, or make the bundle of that layer (python -m sparkdl export --feature-layer " +
      "mixed7).")
    val layer = "conv_pw_2_relu"
    featurizer.setWeights(weights).setFeatureLayer(layer).transform(pictures)
    val bundle = cached(s"MobileNet-${digest(weights).take(16)}-$layer.sparkdl").toString
    assert(featurizer.setModelName(
      bundle).setFeatureLayer(layer).transform(pictures).filter("out is null").count() === 0)
    val other = refusal(featurizer.setModelName(bundle).setFeatureLayer("conv1_relu").transform(pictures))
    assert(other.startsWith(
      s"The bundle $bundle has the features of its layer $layer, but featureLayer is conv1_relu: "))
  }

  test("a saved stage keeps the features of its layer, and forgets them with another") {
    val file = Files.copy(Paths.get(weights), newFolder().resolve("mine.keras")).toString
    val stage = featurizer.setWeights(file).setFeatureLayer("conv_pw_3_relu")
    val expected = stage.transform(pictures).head().get(1)
    val path = newFolder().resolve("stage").toString
    stage.write.save(path)
    Files.delete(Paths.get(file))
    val loaded = DeepImageFeaturizer.load(path)
    assert(loaded.transform(pictures).head().get(1) === expected)
    assert(refusal(
      loaded.setFeatureLayer("conv_pw_2_relu").transform(pictures)) === s"The file $file does not exist.")
  }

  test("a file of another digest than the expected one is refused before it is read, whatever names it") {
    val right = transformer(keras("tensors.keras").toString)
    right.setExpectedSha256(digest(right.getModelFile).toUpperCase)
    assert(right.transform(tensors).filter("out is null").count() === 0)
    val text = Files.write(newFolder().resolve("text.keras"), "no model".getBytes).toString
    val zero = "0" * 64
    def message(file: String) =
      s"$file has SHA-256 ${digest(file)}, but expectedSha256 is $zero: it is another file or was " +
        "changed. Give the right file, or change expectedSha256."
    val stages = Seq(
      text -> transformer(text),
      weights -> featurizer.setWeights(weights),
      tiny -> featurizer.setModelName(tiny)
    )
    stages.foreach { case (file, stage) =>
      val frame = if (stage.hasParam("modelFile")) tensors else pictures
      assert(refusal(stage.setExpectedSha256(zero).transform(frame)) === message(file))
      val kind = intercept[SparkDLArgumentException](stage.setExpectedSha256(zero).transform(frame)).kind()
      assert(kind === ErrorKind.InvalidModel)
    }
    assert(refusal(featurizer.setModelName(tiny).setExpectedSha256("A" * 64).transformSchema(pictures.schema))
      .contains(s"but expectedSha256 is ${"a" * 64}"))
    assert(featurizer.setModelName(tiny).setExpectedSha256(digest(tiny)).transform(pictures).count() === 1)
    assert(refusal(
      featurizer.setExpectedSha256(zero).transform(pictures)) === "The published weights of MobileNet are " +
      "checked anyway: leave expectedSha256 unset, or name a file by weights.")
  }

  test("a model on tensors is no network for pictures") {
    val file = keras("tensors.keras").toString
    transformer(file).transform(tensors)
    val bundle = cached(s"tensors-${digest(file).take(16)}.sparkdl").toString
    assert(refusal(
      featurizer.setModelName(bundle).transform(pictures)) === "DeepImageFeaturizer takes networks for " +
      s"pictures, but $bundle is a model on tensors: use it as modelFile of KerasTransformer or " +
      "KerasImageFileTransformer.")
  }
}
