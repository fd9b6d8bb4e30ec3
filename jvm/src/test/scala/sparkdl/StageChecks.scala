package sparkdl

import java.io.File
import java.lang.reflect.{InvocationTargetException, Modifier}
import java.nio.file.Files

import org.apache.spark.ml.linalg.Vectors
import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.param.shared.HasOutputCol
import org.apache.spark.ml.util.{MLReader, MLWritable}
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types.StructType

import sparkdl.params.PictureParams

/** What every public stage must do, just by being there. */
class StageChecks extends SparkFixture {
  import StageChecks._

  private def keras(name: String): String = SparkFixture.fixture(s"keras/$name.keras").toString

  /** A stage that runs: it takes `rows`, and gives one column. */
  private def ready(stage: ModelTransformer): ModelTransformer = stage match {
    case s: PictureTransformer => s.setInputCol("picture").setOutputCol("out").setModelName(tiny)
    case s: KerasTransformer =>
      s.setInputCols(Array("tokens", "vector")).setOutputCol("out").setModelFile(keras("tensors"))
        .setOutputNames(Array("steps"))
    case s: KerasImageFileTransformer =>
      s.setInputCol("uri").setOutputCol("out").setModelFile(keras("scores")).setInputSize(Array(8, 8))
    case s: TFTransformer =>
      s.setTfInputGraph(graphOf("saved2")).setInputMapping(Map("three" -> "x")).setOutputMapping(Map(
        "y" -> "out"))
    case s: TFImageTransformer =>
      s.setInputCol("picture").setOutputCol("out").setGraph(graphOf("pictures.pb"))
    case unknown => fail(s"${unknown.getClass} is not checked")
  }

  private def graphOf(name: String): TFInputGraph = {
    val path = TFInputGraphSuite.graphs(name)
    if (name.endsWith(".pb")) TFInputGraph.fromGraphDef(path, Seq("pictures"), Seq("means"))
    else TFInputGraph.fromSavedModelWithSignature(path)
  }

  /** The stage with another input column, or other first of two. */
  private def taking(stage: ModelTransformer, column: String): ModelTransformer = stage match {
    case s: PictureTransformer => s.setInputCol(column)
    case s: KerasTransformer => s.setInputCols(Array(column, "vector"))
    case s: KerasImageFileTransformer => s.setInputCol(column)
    case s: TFTransformer => s.setInputMapping(Map(column -> "x"))
    case s: TFImageTransformer => s.setInputCol(column)
    case unknown => fail(s"${unknown.getClass} is not checked")
  }

  private def model(stage: ModelTransformer): String =
    stage.getOrDefault(stage.getParam(stage.modelParam)).asInstanceOf[String]

  private lazy val rows: DataFrame = {
    val session = spark
    import session.implicits._
    val folder = newFolder()
    Seq(1, 2, 3).map { seed =>
      val file = Files.write(folder.resolve(s"$seed.png"), Pictures.png(seed))
      (
        seed,
        Pictures.png(seed),
        file.toString,
        Array(seed, 2, 3, 4),
        Vectors.dense(seed, -1, 0),
        Array(seed.toFloat, 0.5f, 2f),
        "text")
    }.toDF("id", "picture", "uri", "tokens", "vector", "three", "text")
  }

  test("every public stage is checked here") {
    assert(publicStages.map(_.getName).toSet === stages.map(_().getClass.getName).toSet)
  }

  stages.foreach { make =>
    val name = make().getClass.getSimpleName

    test(s"$name: a new one has a uid of its own that tells its class") {
      assert(make().uid.startsWith(name + "_"))
      assert(make().uid !== make().uid)
    }

    test(s"$name: every param has a getter, a setter and a doc, and stands once") {
      assert(make().params.map(_.name).distinct.length === make().params.length)
      make().params.foreach { param =>
        val stage = make()
        val value = other(param.name)
        assert(call(stage, "set", param, Some(value)) eq stage, s"set of ${param.name} gives another stage")
        assert(same(call(stage, "get", param, None), value), param.name)
        assert(param.doc.length > 10, s"the doc of ${param.name} is short")
      }
    }

    test(s"$name: defaults are the documented ones") {
      val stage = make()
      val set =
        stage.params.filter(p => stage.hasDefault(p)).map(p => p.name -> stage.getDefault(p).get).toMap
      val expected = defaults.filter { case (param, _) =>
        stage.hasParam(param)
      } ++ ownDefaults.getOrElse(name, Map.empty) ++
        Option.when(stage.hasParam("outputCol"))("outputCol" -> s"${stage.uid}__output")
      assert(set.keySet === expected.keySet)
      expected.foreach { case (param, value) => assert(same(set(param), value), param) }
    }

    test(s"$name: values that a param does not take are refused, and the message says which it takes") {
      val modes = s"outputMode must be one of ${outputModes(name)} but was \"Vector\"."
      (refused :+ (("outputMode", "Vector", modes))).filter { case (param, _, _) =>
        make().hasParam(param)
      }.foreach {
        case (param, value, message) =>
          val stage = make()
          assert(refusal(stage.set(stage.getParam(param).asInstanceOf[Param[Any]], value)) === message)
      }
    }

    test(s"$name: a copy keeps the uid, takes the extra params and leaves the original alone") {
      val stage = ready(make())
      val copy = stage.copy(ParamMap(stage.batchSize -> 7)).asInstanceOf[ModelTransformer]
      assert(copy.getClass === stage.getClass)
      assert(copy.uid === stage.uid)
      assert(copy.getBatchSize === 7)
      assert(stage.getBatchSize === make().getBatchSize)
      assert(model(copy) === model(stage))
    }

    test(s"$name: what was saved loads with the same uid, params and results") {
      val stage = ready(make()).setBatchSize(2).setErrorCol("why").setHandleInvalid("skip")
      stage match { case s: PictureParams => s.setMaxPixels(5000000000L); case _ => () }
      val path = newFolder().resolve("stage").toString
      stage.write.save(path)
      intercept[Exception](stage.write.save(path))
      stage.write.overwrite().save(path)
      val loaded = readerOf(stage).load(path)
      assert(loaded.uid === stage.uid)
      assert(loaded.getClass === stage.getClass)
      stage.params.foreach { param =>
        assert(loaded.isSet(loaded.getParam(param.name)) === stage.isSet(param), param.name)
        assert(loaded.isDefined(loaded.getParam(param.name)) === stage.isDefined(param), param.name)
        stage.get(param).foreach(value =>
          assert(same(loaded.get(loaded.getParam(param.name)).get, value), param.name))
      }
      assert(loaded.transform(rows).collect() === stage.transform(rows).collect())
      assert(loaded.transform(rows).schema === stage.transform(rows).schema)
    }

    test(s"$name: one without params saves and loads too") {
      val path = newFolder().resolve("stage").toString
      val stage = make()
      stage.write.save(path)
      assert(readerOf(stage).load(path).uid === stage.uid)
    }

    test(s"$name: a schema that does not fit is refused before any job") {
      val schema = rows.schema
      def stage = ready(make())
      assert(
        refusal(taking(stage, "nope").transformSchema(schema)) ===
          "Column nope does not exist. Available columns: id, picture, uri, tokens, vector, three, text."
      )
      val twice = StructType(schema.fields ++ schema.fields)
      assert(refusal(stage.transformSchema(twice)).endsWith("is ambiguous: 2 columns have this name."))
      assert(refusal(taking(stage, "id").transformSchema(schema)) === wrongType(name))
      val taken = stage
      taken match {
        case s: HasOutputCol => taken.set(s.outputCol, "text")
        case s: TFTransformer => s.setOutputMapping(Map("y" -> "text"))
        case unknown => fail(s"${unknown.getClass} is not checked")
      }
      assert(refusal(taken.transformSchema(schema)) === "Column text already exists.")
      assert(refusal(stage.setErrorCol("text").transformSchema(schema)) === "Column text already exists.")
      assert(refusal(stage.setErrorCol("out").transformSchema(schema)) === "Column out already exists.")
      val nameless = stage
      assert(refusal(nameless.set(
        nameless.getParam(nameless.modelParam).asInstanceOf[Param[String]],
        "Inception").transformSchema(schema)) === unknownModel(name))
      assert(refusal(
        make().transformSchema(schema)) === s"$name needs the param ${needed(name).head}: set it first.")
      val unnamed = stage
      unnamed.clear(unnamed.getParam(unnamed.modelParam))
      assert(refusal(unnamed.transformSchema(schema)) ===
        s"$name needs the param ${unnamed.modelParam}: set it first.")
      assert(refusal(taking(stage, "nope").transform(rows)).startsWith("Column nope does not exist."))
    }

    test(s"$name: transform starts no job, and its schema is the one that transformSchema tells") {
      val stage = ready(make()).setErrorCol("why")
      val frame = rows
      val (result, jobs) = countingJobs(stage.transform(frame))
      assert(jobs === 0)
      assert(result.schema === stage.transformSchema(frame.schema))
      assert(result.columns === frame.columns ++ Seq("out", "why"))
      assert(result.filter(col("out").isNull).count() === 0)
    }

    test(s"$name: tells its model when printed") {
      assert(ready(make()).toString.startsWith(s"$name: uid=${name}_"))
      val stage = ready(make())
      assert(stage.toString.contains(model(stage)))
    }
  }
}

object StageChecks {

  val stages: Seq[() => ModelTransformer] = Seq(
    () => new DeepImageFeaturizer(),
    () => new DeepImagePredictor(),
    () => new KerasTransformer(),
    () => new KerasImageFileTransformer(),
    () => new KerasModel(),
    () => new KerasImageFileModel(),
    () => new TFTransformer(),
    () => new TFImageTransformer()
  )

  /** The classes of the package that are stages and not abstract, read from the folder of compiled classes. */
  def publicStages: Seq[Class[_]] = {
    val root = new File(classOf[ModelTransformer].getProtectionDomain.getCodeSource.getLocation.toURI)
    val names =
      new File(root, "sparkdl").list().toSeq.filter(_.endsWith(".class")).map(_.stripSuffix(".class"))
    names
      .filterNot(_.contains("$"))
      .map(name => Class.forName("sparkdl." + name))
      .filter(kind => classOf[MLWritable].isAssignableFrom(kind) && !Modifier.isAbstract(kind.getModifiers))
      // What is made for one use takes arguments.
      .filter(_.getConstructors.exists(_.getParameterCount == 0))
  }

  private val defaults: Map[String, Any] = Map(
    "weights" -> "imagenet",
    "pooling" -> "avg",
    "scaleHint" -> "SCALE_AREA_AVERAGING",
    "resizeMode" -> "stretch",
    "outputMode" -> "vector",
    "batchSize" -> 32,
    "handleInvalid" -> "keep",
    "maxPixels" -> 89478485L,
    "applyExifOrientation" -> false,
    "fastDecode" -> false,
    "decodePredictions" -> false,
    "topK" -> 5,
    "labels" -> Array.empty[String],
    "channelOrder" -> "RGB",
    "preprocessing" -> "none",
    "castInputs" -> false,
    "allowUnsafeOps" -> false,
    "labelCol" -> "label",
    "predictionCol" -> "prediction",
    "labelIndexCol" -> "labelIndex",
    "predictionKind" -> "none",
    "threshold" -> 0.5,
    "labelKind" -> "number",
    "classes" -> 0,
    "trainingHistory" -> "[]",
    "failure" -> ""
  )

  private val ownDefaults: Map[String, Map[String, Any]] = Map(
    "KerasTransformer" -> Map("outputMode" -> "array", "batchSize" -> 256),
    "TFTransformer" -> Map("outputMode" -> "array", "batchSize" -> 256),
    "KerasModel" -> Map("batchSize" -> 256)
  )

  private val outputModes: Map[String, String] = Map(
    "DeepImageFeaturizer" -> "\"vector\", \"array\"",
    "DeepImagePredictor" -> "\"vector\", \"array\"",
    "KerasTransformer" -> "\"array\", \"vector\"",
    "KerasImageFileTransformer" -> "\"vector\", \"array\", \"image\"",
    "KerasModel" -> "\"array\", \"vector\"",
    "KerasImageFileModel" -> "\"vector\", \"array\", \"image\"",
    "TFTransformer" -> "\"array\", \"vector\"",
    "TFImageTransformer" -> "\"vector\", \"array\", \"image\""
  )

  /** The params without which a stage does nothing, in the order in which they are asked for. */
  private val needed: Map[String, Seq[String]] = Map(
    "DeepImageFeaturizer" -> Seq("inputCol", "modelName"),
    "DeepImagePredictor" -> Seq("inputCol", "modelName"),
    "KerasTransformer" -> Seq("modelFile"),
    "KerasImageFileTransformer" -> Seq("inputCol", "modelFile"),
    "KerasModel" -> Seq("modelFile"),
    "KerasImageFileModel" -> Seq("inputCol", "modelFile"),
    "TFTransformer" -> Seq("tfInputGraph", "inputMapping", "outputMapping"),
    "TFImageTransformer" -> Seq("inputCol", "graph")
  )

  private val pictures =
    "Column id must be of type binary or image (struct<origin,height,width,nChannels,mode,data>) " +
      "but was actually int."

  private val tokens =
    "Column id is of type int, but the input tokens of the model functional_1 takes numbers of shape [4] and type int32: " +
      "give an array of numbers."

  private val uri = "Column id must be of type string (the URI of a picture file) but was actually int."

  /** What a stage says of the column `id`, an int, as its input. */
  private val wrongType: Map[String, String] = Map(
    "DeepImageFeaturizer" -> pictures,
    "DeepImagePredictor" -> pictures,
    "KerasTransformer" -> tokens,
    "KerasModel" -> tokens,
    "KerasImageFileTransformer" -> uri,
    "KerasImageFileModel" -> uri,
    "TFTransformer" -> ("Column id is of type int, but the input x of the graph saved2 takes numbers of shape [3] and " +
      "type float32: cast the column to float, or set castInputs."),
    "TFImageTransformer" -> pictures
  )

  private def unknownModel(stage: String): String =
    if (stage.startsWith("Keras"))
      "modelFile must be a Keras model (.keras, .h5, .hdf5) or a bundle (*.sparkdl) but was Inception."
    else if (stage == "TFTransformer")
      "tfInputGraph must be a TFInputGraph or the path of its bundle (*.sparkdl) but was Inception: read the graph with " +
        "TFInputGraph.fromSavedModelWithSignature or another of its methods."
    else if (stage == "TFImageTransformer")
      "graph must be a TFInputGraph, a tf.Graph or the path of a bundle (*.sparkdl) but was Inception: read it with " +
        "TFInputGraph.fromGraphDef or another of its methods."
    else
      s"Unknown model Inception. Known models: ${NamedModels.names.mkString(", ")}; " +
        "or give the path of a bundle (*.sparkdl)."

  /** For each param a value that is not its default. */
  private val other: Map[String, Any] = Map(
    "inputCol" -> "in",
    "outputCol" -> "out",
    "errorCol" -> "why",
    "modelName" -> "MobileNet",
    "weights" -> "/models/mine.keras",
    "pooling" -> "none",
    "scaleHint" -> "SCALE_TF_BILINEAR",
    "resizeMode" -> "pad",
    "outputMode" -> "array",
    "batchSize" -> 3,
    "handleInvalid" -> "error",
    "maxPixels" -> 3000000000L,
    "applyExifOrientation" -> true,
    "fastDecode" -> true,
    "decodePredictions" -> true,
    "topK" -> 2,
    "labels" -> Array("a", "b"),
    "featureLayer" -> "mixed7",
    "expectedSha256" -> "0123456789abcdefABCDEF0123456789" * 2,
    "modelFile" -> "/models/mine.keras",
    "inputCols" -> Array("a", "b"),
    "outputCols" -> Array("c"),
    "inputNames" -> Array("x", "y"),
    "outputNames" -> Array("z"),
    "inputSize" -> Array(64, 48),
    "channelOrder" -> "BGR",
    "preprocessing" -> "torch",
    "castInputs" -> true,
    "allowUnsafeOps" -> true,
    "graph" -> "/models/mine.sparkdl",
    "inputMapping" -> Map("a" -> "x"),
    "inputTensor" -> "x",
    "outputMapping" -> Map("y" -> "b"),
    "outputTensor" -> "y",
    "tfInputGraph" -> "/models/mine.sparkdl",
    "labelCol" -> "species",
    "predictionCol" -> "best",
    "labelIndexCol" -> "index",
    "predictionKind" -> "class",
    "threshold" -> 0.25,
    "labelKind" -> "text",
    "classes" -> 3,
    "trainingHistory" -> "[{}]",
    "failure" -> "it failed"
  )

  private val refused: Seq[(String, Any, String)] = Seq(
    ("pooling", "sum", "pooling must be one of \"avg\", \"max\", \"none\" but was \"sum\"."),
    ("resizeMode", "fit", "resizeMode must be one of \"stretch\", \"crop\", \"pad\" but was \"fit\"."),
    ("handleInvalid", "drop", "handleInvalid must be one of \"keep\", \"skip\", \"error\" but was \"drop\"."),
    (
      "scaleHint",
      "BOX",
      "scaleHint must be one of \"SCALE_AREA_AVERAGING\", \"SCALE_SMOOTH\", \"SCALE_DEFAULT\", \"SCALE_FAST\", " +
        "\"SCALE_REPLICATE\", \"SCALE_BILINEAR\", \"SCALE_BICUBIC\", \"SCALE_TF_BILINEAR\" but was \"BOX\"."
    ),
    ("batchSize", 0, "batchSize must be at least 1 but was 0."),
    ("maxPixels", 0L, "maxPixels must be at least 1 but was 0."),
    ("topK", 0, "topK must be at least 1 but was 0."),
    ("modelName", "", "modelName must not be empty."),
    ("weights", "", "weights must not be empty."),
    ("errorCol", "", "errorCol must not be empty."),
    ("modelFile", "", "modelFile must not be empty."),
    ("graph", "", "graph must not be empty."),
    ("inputTensor", "", "inputTensor must not be empty."),
    ("outputTensor", "", "outputTensor must not be empty."),
    ("tfInputGraph", "", "tfInputGraph must not be empty."),
    ("featureLayer", "", "featureLayer must not be empty."),
    ("expectedSha256", "abc", "expectedSha256 must be 64 hex digits but was \"abc\"."),
    (
      "inputSize",
      Array(0, 3),
      "inputSize must be two numbers of at least 1, height and width, but was [0, 3]."
    ),
    ("labelIndexCol", "", "labelIndexCol must not be empty."),
    (
      "predictionKind",
      "best",
      "predictionKind must be one of \"class\", \"binary\", \"value\", \"none\", \"failed\" but was \"best\"."
    ),
    ("labelKind", "int", "labelKind must be one of \"number\", \"vector\", \"text\" but was \"int\"."),
    ("classes", -1, "classes must be at least 0 but was -1."),
    ("channelOrder", "rgb", "channelOrder must be one of \"RGB\", \"BGR\", \"L\" but was \"rgb\"."),
    (
      "preprocessing",
      "keras",
      "preprocessing must be one of \"none\", \"tf\", \"caffe\", \"torch\" but was \"keras\"."
    )
  )

  private def readerOf(stage: ModelTransformer): MLReader[ModelTransformer] =
    stage.getClass.getMethod("read").invoke(null).asInstanceOf[MLReader[ModelTransformer]]

  private def call(stage: AnyRef, verb: String, param: Param[_], value: Option[Any]): AnyRef = {
    val method = verb + param.name.capitalize
    val takes = (kind: Class[_]) => kind.isPrimitive || value.forall(kind.isInstance(_))
    val found = stage.getClass.getMethods.filter { m =>
      m.getName == method && m.getParameterCount == value.size && m.getParameterTypes.forall(takes)
    }
    assert(found.nonEmpty, s"${stage.getClass.getSimpleName} has no $method")
    try found.head.invoke(stage, value.map(_.asInstanceOf[AnyRef]).toSeq: _*)
    catch { case error: InvocationTargetException => throw error.getCause }
  }

  private def same(left: Any, right: Any): Boolean = (left, right) match {
    case (a: Array[_], b: Array[_]) => a.toSeq == b.toSeq
    case _ => left == right
  }
}
