package sparkdl

import org.apache.spark.ml.param.Param
import org.apache.spark.ml.param.shared.{HasInputCol, HasOutputCol}
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.types._

import sparkdl.engine.{BundleSource, CacheFolder, Manifest, PictureManifest}
import sparkdl.ffi.ErrorKind
import sparkdl.params._

/**
 * A stage that runs pictures through a built-in network or a bundle of one: the params, the schema and the transformation
 * that [[DeepImageFeaturizer]] and [[DeepImagePredictor]] share.
 *
 * The input column holds encoded files (binary: the fast path) or Spark's image struct. All other columns pass
 * through untouched. Nothing runs until the result is used, and streaming DataFrames are fine.
 */
abstract class PictureTransformer private[sparkdl]
    extends ModelTransformer
    with HasInputCol
    with HasOutputCol
    with HasModelName
    with HasWeights
    with HasOutputMode
    with PictureParams {

  /** @group setParam */
  def setInputCol(value: String): this.type = set(inputCol, value)

  /** @group setParam */
  def setOutputCol(value: String): this.type = set(outputCol, value)

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setModelName(value: String): this.type = setNaming(modelName, value)

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setWeights(value: String): this.type = setNaming(weights, value)

  /** @group setParam */
  def setOutputMode(value: String): this.type = set(outputMode, value)

  override private[sparkdl] def modelParam: String = modelName.name

  override private[sparkdl] def namingParams: Seq[Param[_]] = Seq(modelName, weights, expectedSha256)

  /** What the native model computes, as options: `task` and what belongs to it. */
  private[sparkdl] def task: Map[String, String]

  /**
   * What this stage has in common with others whose tasks can be done in the same run: the model, how pictures are prepared,
   * what classes are called, and how many rows a native call takes.
   */
  private[sparkdl] def run: Any = (source, pictureOptions, task("labels"), $(batchSize))

  /** The output of the bundle that the task reads: a key of the manifest's `outputs`. */
  private[sparkdl] def outputName: String

  /** The layer whose output are the features, where it is not the table's. */
  private[sparkdl] def ownFeatureLayer: Option[String] = None

  /** Refuses a task that this model cannot do. */
  private[sparkdl] def checkTask(manifest: PictureManifest): Unit =
    if (!manifest.sizes.contains(outputName))
      throw ErrorKind.InvalidArgument.exception(
        s"The model ${manifest.name} has no output $outputName; it has ${manifest.sizes.keys.toSeq.sorted.mkString(", ")}."
      )

  override private[sparkdl] def checkParams(): Unit = requireParams(inputCol, modelName)

  override private[sparkdl] def checkInput(schema: StructType): Unit =
    StageColumns.checkPictures(schema, $(inputCol))

  override private[sparkdl] def outputColumns: Seq[String] = Seq($(outputCol))

  override private[sparkdl] def checkModel(schema: StructType, manifest: Manifest): Unit =
    checkTask(pictures(manifest))

  override private[sparkdl] def taskOptions(manifest: Manifest): Map[String, String] = task ++ pictureOptions

  override private[sparkdl] def rowInput(dataset: Dataset[_], manifest: Manifest): RowInput =
    PictureInput(dataset.schema, $(inputCol))

  override private[sparkdl] def outputKind: OutputKind =
    if ($(outputMode) == "vector") OutputKind.Vector else OutputKind.Array

  override private[sparkdl] def numbersPerRow(manifest: Manifest): Long =
    pictures(manifest).sizes(outputName).toLong

  override private[sparkdl] def outputFields(manifest: Option[Manifest]): Seq[StructField] =
    Seq(outputKind match {
      case OutputKind.Vector =>
        StageColumns.vector($(outputCol), manifest.map(pictures(_).sizes(outputName)))
      case OutputKind.Classes => StructField($(outputCol), OutputKind.classes)
      case _ => StructField($(outputCol), ArrayType(FloatType, containsNull = false))
    })

  /** The table tells all of a model with published weights, unless the features are taken elsewhere in it. */
  override private[sparkdl] def describe: Option[Manifest] = source match {
    case BundleSource.Published(model, _, _, None) => NamedModels.find(model).map(_.manifest)
    case _ => super.describe
  }

  override private[sparkdl] def namedSource: BundleSource = {
    val published = $(weights) == "imagenet"
    NamedModels.find($(modelName)) match {
      case Some(model) if published && isSet(expectedSha256) =>
        throw ErrorKind.InvalidArgument.exception(
          s"The published weights of ${model.name} are checked anyway: leave expectedSha256 unset, or name a file by " +
            "weights."
        )
      case Some(model) if published =>
        BundleSource.Published(model.name, model.bundleKey, model.weights, ownFeatureLayer)
      case Some(model) =>
        BundleSource.Weights(model.name, $(weights), ownFeatureLayer, get(expectedSha256))
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
      case _ => BundleSource.File($(modelName), get(expectedSha256))
    }
  }

  private def pictures(manifest: Manifest): PictureManifest = manifest match {
    case found: PictureManifest => found
    case _ =>
      throw ErrorKind.InvalidArgument.exception(
        s"${getClass.getSimpleName} takes networks for pictures, but ${$(modelName)} is a model on tensors: use it as " +
          "modelFile of KerasTransformer or KerasImageFileTransformer."
      )
  }
}
