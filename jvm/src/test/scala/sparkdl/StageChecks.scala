package sparkdl

import java.io.File
import java.lang.reflect.{InvocationTargetException, Modifier}

import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.util.{MLReader, MLWritable}
import org.apache.spark.sql.DataFrame
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types.{BinaryType, StringType, StructField, StructType}

/** What every public stage must do, just by being there. */
class StageChecks extends SparkFixture {
  import StageChecks._

  private def ready(stage: PictureTransformer) =
    stage.setInputCol("picture").setOutputCol("out").setModelName(tiny)

  private def pictures: DataFrame = {
    val session = spark
    import session.implicits._
    Seq(1, 2, 3).map(seed => (seed, Pictures.png(seed))).toDF("id", "picture")
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

    test(s"$name: every param has a getter, a setter and a doc") {
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
      } + ("outputCol" -> s"${stage.uid}__output")
      assert(set.keySet === expected.keySet)
      expected.foreach { case (param, value) => assert(same(set(param), value), param) }
    }

    test(s"$name: values that a param does not take are refused, and the message says which it takes") {
      refused.filter { case (param, _, _) => make().hasParam(param) }.foreach {
        case (param, value, message) =>
          val stage = make()
          assert(refusal(stage.set(stage.getParam(param).asInstanceOf[Param[Any]], value)) === message)
      }
    }

    test(s"$name: a copy keeps the uid, takes the extra params and leaves the original alone") {
      val stage = ready(make())
      val copy = stage.copy(ParamMap(stage.batchSize -> 7)).asInstanceOf[PictureTransformer]
      assert(copy.getClass === stage.getClass)
      assert(copy.uid === stage.uid)
      assert(copy.getBatchSize === 7)
      assert(stage.getBatchSize === 32)
      assert(copy.getModelName === tiny)
    }

    test(s"$name: what was saved loads with the same uid, params and results") {
      val stage =
        ready(make()).setBatchSize(2).setErrorCol("why").setMaxPixels(5000000000L).setHandleInvalid("skip")
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
      assert(loaded.transform(pictures).collect() === stage.transform(pictures).collect())
      assert(loaded.transform(pictures).schema === stage.transform(pictures).schema)
    }

    test(s"$name: one without params saves and loads too") {
      val path = newFolder().resolve("stage").toString
      val stage = make()
      stage.write.save(path)
      assert(readerOf(stage).load(path).uid === stage.uid)
    }

    test(s"$name: a schema that does not fit is refused before any job") {
      val schema = StructType(Seq(StructField("picture", BinaryType), StructField("text", StringType)))
      def stage = ready(make())
      assert(
        refusal(stage.setInputCol("nope").transformSchema(schema)) ===
          "Column nope does not exist. Available columns: picture, text."
      )
      assert(
        refusal(stage.setInputCol("text").transformSchema(schema)) ===
          "Column text must be of type binary or image (struct<origin,height,width,nChannels,mode,data>) " +
          "but was actually string."
      )
      assert(refusal(stage.setOutputCol("text").transformSchema(schema)) === "Column text already exists.")
      assert(refusal(stage.setErrorCol("text").transformSchema(schema)) === "Column text already exists.")
      assert(refusal(stage.setErrorCol("out").transformSchema(schema)) === "Column out already exists.")
      assert(
        refusal(stage.setModelName("Inception").transformSchema(schema)) ===
          s"Unknown model Inception. Known models: ${NamedModels.names.mkString(", ")}; " +
          "or give the path of a bundle (*.sparkdl)."
      )
      assert(refusal(make().transformSchema(schema)) === s"$name needs the param inputCol: set it first.")
      assert(
        refusal(
          make().setInputCol("picture").transformSchema(schema)
        ) === s"$name needs the param modelName: set it first."
      )
      assert(refusal(stage.setInputCol("nope").transform(pictures)).startsWith("Column nope does not exist."))
    }

    test(s"$name: transform starts no job, and its schema is the one that transformSchema tells") {
      val stage = ready(make()).setErrorCol("why")
      val frame = pictures
      val (result, jobs) = countingJobs(stage.transform(frame))
      assert(jobs === 0)
      assert(result.schema === stage.transformSchema(frame.schema))
      assert(result.columns === Array("id", "picture", "out", "why"))
      assert(result.filter(col("out").isNull).count() === 0)
    }

    test(s"$name: tells its model when printed") {
      assert(ready(make()).toString.startsWith(s"$name: uid=${name}_"))
      assert(ready(make()).toString.contains(tiny))
    }
  }
}

object StageChecks {

  val stages: Seq[() => PictureTransformer] =
    Seq(() => new DeepImageFeaturizer(), () => new DeepImagePredictor())

  /** The classes of the package that are stages and not abstract, read from the folder of compiled classes. */
  def publicStages: Seq[Class[_]] = {
    val root = new File(classOf[PictureTransformer].getProtectionDomain.getCodeSource.getLocation.toURI)
    val names =
      new File(root, "sparkdl").list().toSeq.filter(_.endsWith(".class")).map(_.stripSuffix(".class"))
    names
      .filterNot(_.contains("$"))
      .map(name => Class.forName("sparkdl." + name))
      .filter(kind => classOf[MLWritable].isAssignableFrom(kind) && !Modifier.isAbstract(kind.getModifiers))
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
    "labels" -> Array.empty[String]
  )

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
    "labels" -> Array("a", "b")
  )

  private val refused: Seq[(String, Any, String)] = Seq(
    ("pooling", "sum", "pooling must be one of \"avg\", \"max\", \"none\" but was \"sum\"."),
    ("resizeMode", "fit", "resizeMode must be one of \"stretch\", \"crop\", \"pad\" but was \"fit\"."),
    ("outputMode", "Vector", "outputMode must be one of \"vector\", \"array\" but was \"Vector\"."),
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
    ("errorCol", "", "errorCol must not be empty.")
  )

  private def readerOf(stage: PictureTransformer): MLReader[PictureTransformer] =
    stage.getClass.getMethod("read").invoke(null).asInstanceOf[MLReader[PictureTransformer]]

  private def call(stage: AnyRef, verb: String, param: Param[_], value: Option[Any]): AnyRef = {
    val method = verb + param.name.capitalize
    val found =
      stage.getClass.getMethods.filter(m => m.getName == method && m.getParameterCount == value.size)
    assert(found.nonEmpty, s"${stage.getClass.getSimpleName} has no $method")
    try found.head.invoke(stage, value.map(_.asInstanceOf[AnyRef]).toSeq: _*)
    catch { case error: InvocationTargetException => throw error.getCause }
  }

  private def same(left: Any, right: Any): Boolean = (left, right) match {
    case (a: Array[_], b: Array[_]) => a.toSeq == b.toSeq
    case _ => left == right
  }
}
