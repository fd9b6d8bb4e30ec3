package sparkdl.sql

import java.util.concurrent.ConcurrentHashMap

import scala.jdk.CollectionConverters._
import scala.util.Try

import org.apache.spark.ml.param._
import org.apache.spark.sql.{Row, SparkSession}
import org.apache.spark.sql.sparkdl.SessionFunctions
import org.apache.spark.sql.types._

import sparkdl._
import sparkdl.engine.{RowExtension, TensorManifest}
import sparkdl.ffi.ErrorKind

/** Models as functions of SQL, which gather rows for native runs wherever they stand in a query. */
object ModelFunctions {

  /** What functions do: the values of the option `task`. */
  val tasks: Seq[String] = Seq("predict", "featurize", "run", "images")

  /**
   * Registers a model as a function of this session.
   *
   * Tasks: `predict`, a picture (encoded, or Spark's image struct) to scores (`array<float>`), or with `topK` to the best
   * classes (`array<struct<class, description, probability>>`, best first); `featurize`, a picture to features
   * (`array<float>`); both for built-in networks and bundles of them. `run`, one column for each input of a model on tensors
   * in its own order, or one struct with fields of their names, to its output, several outputs to a struct. `images`, a
   * picture into a model on tensors of one input. Rows without a result are NULL.
   *
   * @param name of the function
   * @param model the name of a built-in network, or the path or URI of a Keras file (`.keras`, `.h5`) or of a bundle
   *   (`.sparkdl`)
   * @param options `task` (when left out `predict` for networks and `run` for models on tensors), `topK`, and params of the
   *   stage that does the same: [[DeepImagePredictor]], [[DeepImageFeaturizer]], [[TFTransformer]], [[TFImageTransformer]]
   */
  def register(
      spark: SparkSession,
      name: String,
      model: String,
      options: Map[String, String] = Map.empty): Unit = {
    val function = of(spark, model, options)
    try SessionFunctions.register(
        spark,
        name,
        function,
        s"$name(...) - Runs the model $model on rows, many at a time.")
    catch {
      case missing: LinkageError => refuse(
          s"Spark ${spark.version} has other insides than 4.1 and takes no function of a model ($missing): use the " +
            "stage that does the same, or registerModelUDF of PySpark.")
    }
  }

  /** The same for Java. */
  def register(
      spark: SparkSession,
      name: String,
      model: String,
      options: java.util.Map[String, String]): Unit = register(spark, name, model, options.asScala.toMap)

  private[sql] def of(spark: SparkSession, model: String, options: Map[String, String]): BatchFunction = {
    val isKnown = NamedModels.names.contains(model)
    if (!isKnown && !files.exists(model.endsWith))
      refuse(
        s"Unknown model $model. Known models: ${NamedModels.names.mkString(", ")}; or give the path of a Keras file (.keras, " +
          ".h5) or of a bundle (.sparkdl)."
      )
    val isNetwork = isKnown || isPictureBundle(model)
    val task = options.getOrElse("task", if (isNetwork) "predict" else "run")
    val more = options - "task" - "topK"
    if (!tasks.contains(task)) refuse(s"task cannot be \"$task\"; it takes ${tasks.mkString(", ")}.")
    if (options.contains("topK") && task != "predict")
      refuse(s"topK goes with the task \"predict\", not \"$task\": leave it out.")
    if (isNetwork != Set("predict", "featurize")(task)) {
      val (kind, takes) =
        if (isNetwork) ("network", "predict, featurize") else ("model on tensors", "run, images")
      refuse(s"A $kind does not do the task \"$task\"; it takes $takes.")
    }
    task match {
      case "predict" =>
        val stage = new DeepImagePredictor().setInputCol(picture).setOutputCol(result).setModelName(model)
          .setOutputMode("array")
        options.get("topK").foreach { count =>
          stage.setDecodePredictions(true)
          set(stage, "topK", count)
        }
        new StageFunction(spark, configured(stage, more), Seq(picture))
      case "featurize" =>
        val stage = new DeepImageFeaturizer().setInputCol(picture).setOutputCol(result).setModelName(model)
          .setOutputMode("array")
        new StageFunction(spark, configured(stage, more), Seq(picture))
      case "images" =>
        val stage = new TFImageTransformer().setInputCol(picture).setOutputCol(result).setGraph(graph(model))
          .setOutputMode("array")
        new StageFunction(spark, configured(stage, more), Seq(picture))
      case _ =>
        val read = graph(model)
        val columns = read.inputs.zipWithIndex.map { case (input, index) =>
          StageFunction.column(index) -> input.name
        }
        val stage = new TFTransformer().setTfInputGraph(read).setCastInputs(true)
          .setInputMapping(columns.toMap)
          .setOutputMapping(read.outputs.map(output => output.name -> output.name.stripSuffix(":0")).toMap)
        new StageFunction(spark, configured(stage, more), read.inputs.map(_.name.stripSuffix(":0")))
    }
  }

  private val picture = StageFunction.column(0)
  private val result = "result"
  private val files = Seq(".sparkdl", ".keras", ".h5", ".hdf5")

  private def graph(model: String): TFInputGraph =
    if (model.endsWith(".sparkdl")) TFInputGraph.fromBundle(model) else TFInputGraph.fromKeras(model)

  private def isPictureBundle(model: String): Boolean = model.endsWith(".sparkdl") &&
    (new DeepImagePredictor().setModelName(model).describe match {
      case Some(_: TensorManifest) => false
      case _ => true
    })

  private def configured(stage: ModelTransformer, options: Map[String, String]): ModelTransformer = {
    options.foreach { case (name, value) => set(stage, name, value) }
    stage
  }

  /** Params that say where columns are and what becomes of rows, which a query says. */
  private val ofColumns = Set(
    "inputCol",
    "outputCol",
    "inputMapping",
    "outputMapping",
    "outputMode",
    "decodePredictions",
    "modelName",
    "graph",
    "tfInputGraph",
    "castInputs",
    "handleInvalid",
    "errorCol"
  )

  /** Sets a param by its name from text. */
  private def set(stage: ModelTransformer, name: String, value: String): Unit = {
    if (ofColumns(name))
      refuse(s"The option $name has no place in a function: a query names columns, and rows without a result are NULL.")
    if (!stage.hasParam(name))
      refuse(
        s"Unknown option $name. Known options: task, topK, ${stage.params.map(_.name).filterNot(ofColumns).mkString(", ")}."
      )
    def wrong(kind: String) = refuse(s"The option $name cannot be \"$value\"; it takes $kind.")
    (stage.getParam(name): Param[_]) match {
      case param: IntParam => stage.set(param, value.toIntOption.getOrElse(wrong("a whole number")))
      case param: LongParam => stage.set(param, value.toLongOption.getOrElse(wrong("a whole number")))
      case param: BooleanParam => stage.set(param, value.toBooleanOption.getOrElse(wrong("true or false")))
      case param: StringArrayParam => stage.set(param, value.split(",").map(_.trim))
      case param: IntArrayParam =>
        stage.set(
          param,
          value.split(",").map(_.trim.toIntOption.getOrElse(wrong("whole numbers, as 224,224"))))
      case param => stage.set(param.asInstanceOf[Param[String]], value)
    }
    ()
  }

  private def refuse(message: String): Nothing = throw ErrorKind.InvalidArgument.exception(message)
}

/** A stage as a function of its input columns. What it needs is found on the driver, for each types of columns once. */
private final class StageFunction(
    @transient spark: SparkSession,
    @transient private val stage: ModelTransformer,
    override val inputs: Seq[String],
    @transient others: Seq[StageFunction] = Nil
) extends BatchFunction {

  private val planned = new ConcurrentHashMap[Seq[DataType], RowExtension]

  // Fails where the model cannot be used at all.
  override val outputs: Seq[StructField] =
    stage.outputFields(stage.describe) ++ others.flatMap(_.outputs)

  override val run: Option[Any] = stage match {
    case pictures: PictureTransformer => Some(pictures.run)
    case _ => None
  }

  override def joined(others: Seq[BatchFunction]): BatchFunction =
    if (others.isEmpty) this
    else new StageFunction(spark, stage, inputs, others.collect { case other: StageFunction => other })

  override def rows(kinds: Seq[DataType]): Try[RowExtension] = Try {
    planned.computeIfAbsent(
      kinds,
      { _ =>
        val schema = StructType(kinds.zipWithIndex.map { case (kind, index) =>
          StructField(StageFunction.column(index), kind)
        })
        stage.transformSchema(schema)
        stage.extension(
          spark.createDataFrame(java.util.Collections.emptyList[Row](), schema),
          others.map(_.stage))._1
      }
    )
  }
}

private object StageFunction {

  /** The name of the column of an input, as errors say it. */
  def column(index: Int): String = s"argument ${index + 1}"
}
