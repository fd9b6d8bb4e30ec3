package sparkdl

import org.apache.spark.ml.Transformer
import org.apache.spark.ml.attribute.AttributeGroup
import org.apache.spark.ml.linalg.SQLDataTypes
import org.apache.spark.ml.param.Param
import org.apache.spark.ml.param.shared.{HasInputCol, HasOutputCol}
import org.apache.spark.ml.util.{MLWritable, MLWriter}
import org.apache.spark.sql.{DataFrame, Dataset, Encoder, Encoders, Row, SparkSession}
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types._

import sparkdl.engine.{Bundles, BundleSource, CacheFolder, EngineConf, EngineMetrics, Manifest, ShippedBundle}
import sparkdl.ffi.ErrorKind
import sparkdl.params._

/**
 * A stage that runs pictures through a network: the params, the schema and the transformation that
 * [[DeepImageFeaturizer]] and [[DeepImagePredictor]] share.
 *
 * The input column holds encoded files (binary: the fast path) or Spark's image struct. All other columns pass
 * through untouched. Nothing runs until the result is used, and streaming DataFrames are fine.
 */
abstract class PictureTransformer private[sparkdl]
    extends Transformer
    with HasInputCol
    with HasOutputCol
    with HasModelName
    with HasWeights
    with HasScaleHint
    with HasResizeMode
    with HasOutputMode
    with HasBatchSize
    with HasHandleInvalid
    with HasErrorCol
    with HasPictureOptions
    with MLWritable {

  /** @group setParam */
  def setInputCol(value: String): this.type = set(inputCol, value)

  /** @group setParam */
  def setOutputCol(value: String): this.type = set(outputCol, value)

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setModelName(value: String): this.type = {
    pin = None
    set(modelName, value)
  }

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setWeights(value: String): this.type = {
    pin = None
    set(weights, value)
  }

  /** @group setParam */
  def setScaleHint(value: String): this.type = set(scaleHint, value)

  /** @group setParam */
  def setResizeMode(value: String): this.type = set(resizeMode, value)

  /** @group setParam */
  def setOutputMode(value: String): this.type = set(outputMode, value)

  /** @group setParam */
  def setBatchSize(value: Int): this.type = set(batchSize, value)

  /** @group setParam */
  def setHandleInvalid(value: String): this.type = set(handleInvalid, value)

  /** @group setParam */
  def setErrorCol(value: String): this.type = set(errorCol, value)

  /** @group setParam */
  def setMaxPixels(value: Long): this.type = set(maxPixels, value)

  /** @group setParam */
  def setApplyExifOrientation(value: Boolean): this.type = set(applyExifOrientation, value)

  /** @group setParam */
  def setFastDecode(value: Boolean): this.type = set(fastDecode, value)

  override def transform(dataset: Dataset[_]): DataFrame = {
    transformSchema(dataset.schema, logging = true)
    val session = dataset.sparkSession
    val bundles = new Bundles(session)
    val bundle = bundles.resolve(source)
    val options = task ++ pictureOptions
    val conf = EngineConf.of(session)
    // Opens and closes: a bundle or a TensorFlow that does not work fails here, not in a job.
    PictureModel(ShippedBundle(bundle.digest, Some(bundle.file.toString)), options, conf).open().close()
    val run = new PictureRows(
      model = PictureModel(bundles.ship(bundle), options, conf),
      input = PictureRows.Input(dataset.schema, $(inputCol), $(batchSize)),
      invalid = PictureRows.Invalid($(handleInvalid), reasons = isSet(errorCol)),
      output = outputKind,
      metrics = EngineMetrics.of(session.sparkContext)
    )
    appended(dataset, run, newFields(dataset.schema, Some(bundle.manifest)))
  }

  override def transformSchema(schema: StructType): StructType = {
    Seq[Param[String]](inputCol, modelName).foreach { param =>
      if (!isDefined(param))
        throw ErrorKind.InvalidArgument.exception(
          s"${getClass.getSimpleName} needs the param ${param.name}: set it first."
        )
    }
    PictureColumns.checkInput(schema, $(inputCol))
    val manifest = source match {
      case BundleSource.Published(model, _, _) => NamedModels.find(model).map(_.manifest)
      case other => new Bundles(SparkSession.active).describe(other)
    }
    manifest.foreach(checkTask)
    StructType(schema.fields ++ newFields(schema, manifest))
  }

  override def write: MLWriter = new StageWriter(this)

  /** What the native model computes, as options: `task` and what belongs to it. */
  private[sparkdl] def task: Map[String, String]

  /** Which Scala values the results become. */
  private[sparkdl] def outputKind: OutputKind =
    if ($(outputMode) == "vector") OutputKind.Vector else OutputKind.Array

  /** The output of the bundle that the task reads: a key of the manifest's `outputs`. */
  private[sparkdl] def outputName: String

  /** Refuses a task that this model cannot do. */
  private[sparkdl] def checkTask(manifest: Manifest): Unit =
    if (!manifest.sizes.contains(outputName))
      throw ErrorKind.InvalidArgument.exception(
        s"The model ${manifest.name} has no output $outputName; it has ${manifest.sizes.keys.toSeq.sorted.mkString(", ")}."
      )

  /** Where the bundle of this stage comes from: the one it was loaded with, a built-in model, or a file. */
  private[sparkdl] def source: BundleSource = {
    val published = $(weights) == "imagenet"
    (pinned, NamedModels.find($(modelName))) match {
      case (Some(digest), _) => BundleSource.Kept(digest)
      case (_, Some(model)) if published => BundleSource.Published(model.name, model.bundleKey, model.weights)
      case (_, Some(model)) => BundleSource.Weights(model.name, $(weights))
      case _ if ! $(modelName).endsWith(CacheFolder.extension) =>
        throw ErrorKind.InvalidArgument.exception(
          s"Unknown model ${$(modelName)}. Known models: ${NamedModels.names.mkString(", ")}; " +
            "or give the path of a bundle (*.sparkdl)."
        )
      case _ if !published =>
        throw ErrorKind.InvalidArgument.exception(
          s"The bundle ${$(modelName)} has weights of its own but the param weights is ${$(weights)}: " +
            "leave weights unset, or give the name of a built-in model as modelName."
        )
      case _ => BundleSource.File($(modelName))
    }
  }

  /** The bundle this stage was loaded with, with the values it belongs to: other values come with other bundles. */
  private[sparkdl] var pin: Option[Pin] = None

  /** Hands the pin on to a copy, whose params may differ. */
  protected def copied[T <: PictureTransformer](that: T): T = {
    that.pin = pin
    that
  }

  private def pinned: Option[String] =
    pin.filter(p => get(modelName).contains(p.modelName) && $(weights) == p.weights).map(_.digest)

  private def pictureOptions: Map[String, String] = Map(
    "scaleHint" -> $(scaleHint),
    "resizeMode" -> $(resizeMode),
    "maxPixels" -> $(maxPixels).toString,
    "applyExifOrientation" -> $(applyExifOrientation).toString,
    "fastDecode" -> $(fastDecode).toString
  )

  private def newFields(schema: StructType, manifest: Option[Manifest]): Seq[StructField] = {
    val output = outputKind match {
      case OutputKind.Vector =>
        val group = manifest.map(_.sizes(outputName)).map(new AttributeGroup($(outputCol), _))
        StructField(
          $(outputCol),
          SQLDataTypes.VectorType,
          metadata = group.map(_.toMetadata()).getOrElse(Metadata.empty)
        )
      case OutputKind.Array => StructField($(outputCol), ArrayType(FloatType, containsNull = false))
      case OutputKind.Classes => StructField($(outputCol), OutputKind.classes)
    }
    val reason = get(errorCol).map(StructField(_, StringType))
    val taken = schema.fieldNames.toSet
    (output +: reason.toSeq).foldLeft(taken) { (names, field) =>
      if (names(field.name))
        throw ErrorKind.InvalidArgument.exception(s"Column ${field.name} already exists.")
      names + field.name
    }
    output +: reason.toSeq
  }

  /**
   * Columns travel by position, since names may hold dots or stand twice. `mapPartitions` drops the metadata of columns:
   * the last `select` puts names and metadata back.
   */
  private def appended(dataset: Dataset[_], run: PictureRows, fields: Seq[StructField]): DataFrame = {
    val named = dataset.schema.fields ++ fields
    val numbered = named.zipWithIndex.map { case (field, index) =>
      field.copy(name = s"_$index", metadata = Metadata.empty)
    }
    val before = StructType(numbered.take(dataset.schema.length))
    val rows =
      dataset.toDF(before.fieldNames.toIndexedSeq: _*).as[Row](RowEncoder(dataset.sparkSession, before))
    val results = rows.mapPartitions(run)(RowEncoder(dataset.sparkSession, StructType(numbered)))
    // The encoder also drops the metadata of fields within structs; a cast to the same type with it puts it back.
    val columns = named.zip(results.schema.fields).map { case (field, result) =>
      val values =
        if (result.dataType == field.dataType) col(result.name) else col(result.name).cast(field.dataType)
      values.as(field.name, field.metadata)
    }
    results.select(columns.toIndexedSeq: _*)
  }
}

/** A bundle by digest, and the values of `modelName` and `weights` that stand for it. */
private[sparkdl] final case class Pin(digest: String, modelName: String, weights: String)

/**
 * Rows whose dates and times are values of `java.time`. Those of `java.sql`, which Spark gives by default, follow the
 * Julian calendar before 1582: old dates would come out of a stage as other dates.
 */
private object RowEncoder {

  def apply(session: SparkSession, schema: StructType): Encoder[Row] = {
    // Spark reads this setting from the thread's session, so it is set in one of our own and not in the user's.
    val own = session.newSession()
    own.conf.set("spark.sql.datetime.java8API.enabled", "true")
    val active = SparkSession.getActiveSession
    SparkSession.setActiveSession(own)
    try Encoders.row(schema)
    finally active.fold(SparkSession.clearActiveSession())(SparkSession.setActiveSession)
  }
}
