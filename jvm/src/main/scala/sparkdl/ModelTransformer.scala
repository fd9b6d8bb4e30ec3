package sparkdl

import org.apache.spark.ml.Transformer
import org.apache.spark.ml.param.Param
import org.apache.spark.ml.util.{MLWritable, MLWriter}
import org.apache.spark.sql.{DataFrame, Dataset, SparkSession}
import org.apache.spark.sql.types._

import sparkdl.engine._
import sparkdl.ffi.{ErrorKind, NativeApi}
import sparkdl.params.{HasBatchSize, HasErrorCol, HasExpectedSha256, HasHandleInvalid}

/**
 * A stage that runs the rows of a DataFrame through a model: what all public stages share.
 *
 * The new columns come last; all other columns pass through untouched. Nothing runs until the result is used, and
 * streaming DataFrames are fine. What is wrong with params, schema or model is told on the driver, before any job.
 */
abstract class ModelTransformer private[sparkdl]
    extends Transformer
    with HasBatchSize
    with HasHandleInvalid
    with HasErrorCol
    with HasExpectedSha256
    with MLWritable {

  /** @group setParam */
  def setBatchSize(value: Int): this.type = set(batchSize, value)

  /** @group setParam */
  def setHandleInvalid(value: String): this.type = set(handleInvalid, value)

  /** @group setParam */
  def setErrorCol(value: String): this.type = set(errorCol, value)

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setExpectedSha256(value: String): this.type = setNaming(expectedSha256, value)

  override def transform(dataset: Dataset[_]): DataFrame = {
    transformSchema(dataset.schema, logging = true)
    val (rows, fields) = extension(dataset)
    AppendedColumns(dataset, rows, fields)
  }

  /**
   * What makes the new columns of these rows, and those columns; the bundle is on its way to the tasks. Columns of other
   * stages, which differ only in what they ask of the model, come after those of this one, from the same run.
   */
  private[sparkdl] def extension(
      dataset: Dataset[_],
      others: Seq[ModelTransformer] = Nil): (RowExtension, Seq[StructField]) = {
    val session = dataset.sparkSession
    val bundles = new Bundles(session)
    val bundle = bundles.resolve(source)
    val manifest = bundle.manifest
    val all = this +: others
    all.foreach(_.checkModel(dataset.schema, manifest))
    val options = ModelTransformer.joined(all.map(_.taskOptions(manifest)))
    val conf = EngineConf.of(session)
    // Opens and closes: a bundle or a TensorFlow that does not work fails here, not in a job.
    TaskModel(ShippedBundle(bundle.digest, Some(bundle.file.toString)), options, conf).open().close()
    val outputs = all.flatMap(_.outputFields(Some(manifest)))
    val rows = new ModelRows(
      model = TaskModel(bundles.ship(bundle), options, conf),
      input = rowInput(dataset, manifest),
      invalid = ModelRows.Invalid($(handleInvalid), reasons = isSet(errorCol)),
      output = ModelRows.Output(outputKind, outputs.size, all.map(_.rowsPerCall(manifest)).min),
      metrics = EngineMetrics.of(session.sparkContext),
      shown =
        s"${manifest.name} (${options("task")}), batchSize=${$(batchSize)}, device=${NativeApi.device()}"
    )
    (rows, outputs ++ reasonField)
  }

  override def transformSchema(schema: StructType): StructType = {
    checkParams()
    checkInput(schema)
    StageColumns.checkNew(schema, outputColumns ++ get(errorCol))
    val manifest = describe
    manifest.foreach(checkModel(schema, _))
    StructType(schema.fields ++ outputFields(manifest) ++ reasonField)
  }

  override def write: MLWriter = new StageWriter(this)

  /** The name of the param that names the model; a method that gave the param itself would count as one more param. */
  private[sparkdl] def modelParam: String

  /** The params that say together which bundle the stage runs. */
  private[sparkdl] def namingParams: Seq[Param[_]]

  /** Where the bundle comes from by the values of the params. */
  private[sparkdl] def namedSource: BundleSource

  /** Refuses params that are missing or exclude each other. */
  private[sparkdl] def checkParams(): Unit

  /** Refuses input columns that are not there, or that no model of this stage takes. */
  private[sparkdl] def checkInput(schema: StructType): Unit

  /** The names of the columns of results. */
  private[sparkdl] def outputColumns: Seq[String]

  /** Refuses what this model cannot do with these columns. */
  private[sparkdl] def checkModel(schema: StructType, manifest: Manifest): Unit

  /** What the native model computes, as options: `task` and what belongs to it. */
  private[sparkdl] def taskOptions(manifest: Manifest): Map[String, String]

  /** What of the rows goes into the model. */
  private[sparkdl] def rowInput(dataset: Dataset[_], manifest: Manifest): RowInput

  /** Which Scala values the results become. */
  private[sparkdl] def outputKind: OutputKind

  /** The columns of results, as far as they are known without the model's manifest. */
  private[sparkdl] def outputFields(manifest: Option[Manifest]): Seq[StructField]

  /** How many numbers the results of one row are, as far as that is known. */
  private[sparkdl] def numbersPerRow(manifest: Manifest): Long

  /** What can be told of the model without making its bundle, where that would take long. */
  private[sparkdl] def describe: Option[Manifest] = new Bundles(SparkSession.active).describe(source)

  /** Where the bundle of this stage comes from: the one it was loaded with, or what the params name. */
  private[sparkdl] final def source: BundleSource = pinned.fold(namedSource)(BundleSource.Kept(_))

  /** The bundle this stage was loaded with, with the values it belongs to: other values come with other bundles. */
  private[sparkdl] var pin: Option[Pin] = None

  /** The pin of a bundle for the values that the params have now. */
  private[sparkdl] def pinFor(digest: String): Pin = Pin(digest, namingValues)

  /** Sets a param that names the model: the bundle the stage was loaded with is forgotten. */
  protected final def setNaming[T](param: Param[T], value: T): this.type = {
    pin = None
    set(param, value)
  }

  /** Hands the pin on to a copy, whose params may differ. */
  protected final def copied[T <: ModelTransformer](that: T): T = {
    that.pin = pin
    that
  }

  /** Refuses a stage that lacks a param. */
  protected final def requireParams(params: Param[_]*): Unit = params.find(!isDefined(_)).foreach { param =>
    throw ErrorKind.InvalidArgument.exception(
      s"${getClass.getSimpleName} needs the param ${param.name}: set it first."
    )
  }

  /** The digest of the bundle it was loaded with, while the params that name the model keep their values. */
  private[sparkdl] def pinned: Option[String] = pin.filter(_.values == namingValues).map(_.digest)

  private def namingValues: Map[String, String] = namingParams
    .asInstanceOf[Seq[Param[Any]]]
    .flatMap(param =>
      get(param).orElse(getDefault(param)).map(value => param.name -> param.jsonEncode(value)))
    .toMap

  private def reasonField: Option[StructField] = get(errorCol).map(StructField(_, StringType))

  /** A result has its place in one buffer, which a JVM bounds to 2 GiB. */
  private def rowsPerCall(manifest: Manifest): Int =
    math.min(
      $(batchSize).toLong,
      math.max(1L, ModelTransformer.maxNumbers / math.max(1L, numbersPerRow(manifest)))).toInt
}

private object ModelTransformer {

  /** Numbers of one native call's result. */
  val maxNumbers: Long = 1L << 27

  /** The options of one run that does several tasks of a network: what a task reads has a value for each that reads it. */
  private def joined(tasks: Seq[Map[String, String]]): Map[String, String] = tasks match {
    case Seq(only) => only
    case several =>
      def of(key: String, reads: String => Boolean) = key ->
        several.filter(options => reads(options("task"))).map(_(key)).mkString(",")
      several.head ++ Map(
        of("task", _ => true),
        of("pooling", _ == "features"),
        of("topK", _ == "topK"))
  }
}

/** A bundle by digest, and the values of the params that stand for it. */
private[sparkdl] final case class Pin(digest: String, values: Map[String, String])
