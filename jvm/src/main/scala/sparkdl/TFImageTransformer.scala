package sparkdl

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.ObjectMapper
import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.param.shared.{HasInputCol, HasOutputCol}
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.types.{StructField, StructType}

import sparkdl.engine.{BundleSource, CacheFolder, Manifest, TensorManifest, TensorSpec}
import sparkdl.ffi.ErrorKind
import sparkdl.params._

/**
 * Runs pictures through a TensorFlow graph.
 *
 * The graph takes one tensor of pictures `[rows, height, width, 1 or 3]`, float32 or uint8, of samples from 0 to 255 in
 * `channelOrder`. Pictures are resized to `inputSize`, or to the size that the graph has; where both are open each keeps its
 * size, and pictures of one size that follow each other run together. The input column holds encoded files (binary) or
 * Spark's image struct.
 *
 * An output becomes an MLlib vector, arrays nested by the shape of a row, or Spark's image struct, of the tensor's own
 * height, width and channels (1, 3 or 4; uint8 or float32).
 */
final class TFImageTransformer(override val uid: String)
    extends ModelTransformer
    with HasInputCol
    with HasOutputCol
    with HasGraph
    with HasAllowUnsafeOps
    with HasOutputMapping
    with HasChannelOrder
    with HasInputSize
    with HasGraphOutputMode
    with PictureParams {

  def this() = this(Identifiable.randomUID("TFImageTransformer"))

  /** @group setParam */
  def setInputCol(value: String): this.type = set(inputCol, value)

  /** @group setParam */
  def setOutputCol(value: String): this.type = set(outputCol, value)

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setGraph(value: TFInputGraph): this.type = setGraph(value.path)

  /**
   * The path or URI of the bundle of a graph.
   * @group setParam
   */
  def setGraph(value: String): this.type = setNaming(graph, value)

  /** @group setParam */
  def setInputTensor(value: String): this.type = setNaming(inputTensor, value)

  /** @group setParam */
  def setOutputTensor(value: String): this.type = setNaming(outputTensor, value)

  /**
   * Tensor, by its name or its key in the signature, to new column; in the place of `outputCol` and `outputTensor`.
   * @group setParam
   */
  def setOutputMapping(value: Map[String, String]): this.type = set(outputMapping, value)

  /** @group setParam */
  def setOutputMapping(value: java.util.Map[String, String]): this.type =
    setOutputMapping(value.asScala.toMap)

  /** @group setParam */
  def setChannelOrder(value: String): this.type = set(channelOrder, value)

  /** @group setParam */
  def setInputSize(value: Array[Int]): this.type = set(inputSize, value)

  /** @group setParam */
  def setOutputMode(value: String): this.type = set(outputMode, value)

  /** @group setParam */
  def setAllowUnsafeOps(value: Boolean): this.type = set(allowUnsafeOps, value)

  override private[sparkdl] def modelParam: String = graph.name

  override private[sparkdl] def namingParams: Seq[Param[_]] =
    Seq(graph, inputTensor, outputTensor, expectedSha256)

  override private[sparkdl] def namedSource: BundleSource = {
    val path = $(graph)
    if (!path.endsWith(CacheFolder.extension))
      refuse(
        s"graph must be a TFInputGraph, a tf.Graph or the path of a bundle (*.sparkdl) but was $path: read it with " +
          "TFInputGraph.fromGraphDef or another of its methods."
      )
    BundleSource.File(path, get(expectedSha256))
  }

  override private[sparkdl] def checkParams(): Unit = {
    requireParams(inputCol, graph)
    if (isSet(outputMapping)) Seq[Param[_]](outputCol, outputTensor).filter(isSet).foreach { param =>
      refuse(
        s"TFImageTransformer takes either ${param.name} or outputMapping, but both are set: clear one of them.")
    }
  }

  override private[sparkdl] def checkInput(schema: StructType): Unit =
    StageColumns.checkPictures(schema, $(inputCol))

  override private[sparkdl] def outputColumns: Seq[String] =
    get(outputMapping).fold(Seq($(outputCol)))(_.values.toSeq.sorted)

  override private[sparkdl] def checkModel(schema: StructType, manifest: Manifest): Unit = {
    val model = tensors(manifest)
    model.checkSafe(allowed = $(allowUnsafeOps))
    checkTaken(model)
    (model.inputs ++ fetched(model)).foreach(_.checkRows(s"the graph ${model.name}"))
    TensorColumns.checkOutputs(fetched(model), outputKind, model)
    fetched(model).foreach(checkGiven(_, model))
  }

  override private[sparkdl] def taskOptions(manifest: Manifest): Map[String, String] = {
    val size = get(inputSize).getOrElse(Array(0, 0))
    pictureOptions ++ Map(
      "task" -> "images",
      "allowUnsafeOps" -> $(allowUnsafeOps).toString,
      "outputs" -> new ObjectMapper().writeValueAsString(fetched(tensors(manifest)).map(_.name).toArray),
      "outputMode" -> (if ($(outputMode) == "image") "image" else "values"),
      "channelOrder" -> $(channelOrder),
      "height" -> size(0).toString,
      "width" -> size(1).toString
    )
  }

  override private[sparkdl] def rowInput(dataset: Dataset[_], manifest: Manifest): RowInput =
    PictureInput(dataset.schema, $(inputCol))

  override private[sparkdl] def outputKind: OutputKind = $(outputMode) match {
    case "vector" => OutputKind.Vector
    case "image" => OutputKind.Image
    case _ => OutputKind.Array
  }

  override private[sparkdl] def numbersPerRow(manifest: Manifest): Long =
    fetched(tensors(manifest)).map(_.size.getOrElse(0).toLong).sum

  override private[sparkdl] def outputFields(manifest: Option[Manifest]): Seq[StructField] =
    manifest.map(tensors).toSeq.flatMap { model =>
      outputColumns.zip(fetched(model)).map { case (column, output) =>
        outputKind match {
          case OutputKind.Vector => StageColumns.vector(column, output.size)
          case OutputKind.Image => StructField(column, StageColumns.imageType)
          case _ => StructField(column, TensorColumns.outputType(output))
        }
      }
    }

  override def copy(extra: ParamMap): TFImageTransformer = copied(defaultCopy[TFImageTransformer](extra))

  override def toString: String =
    s"TFImageTransformer: uid=$uid${get(graph).fold("")(graph => s", graph=$graph")}, outputMode=${$(outputMode)}"

  private def tensors(manifest: Manifest): TensorManifest = manifest match {
    case found: TensorManifest => found
    case _ =>
      refuse(
        s"TFImageTransformer takes graphs on tensors, but ${$(graph)} is a network for pictures: use it as modelName of " +
          "DeepImageFeaturizer or DeepImagePredictor."
      )
  }

  /** The outputs in the order of the columns. */
  private def fetched(model: TensorManifest): Seq[TensorSpec] = {
    def output(name: String) = TensorNames.find(name, model.outputs, "output", model.name)
    (get(outputMapping).map(_.map(_.swap)), get(outputTensor)) match {
      case (Some(names), _) => outputColumns.map(column => output(names(column)))
      case (None, Some(name)) => Seq(output(name))
      case _ if model.outputs.size == 1 => model.outputs
      case _ =>
        refuse(
          s"The graph ${model.name} has ${model.outputs.size} outputs (${model.outputs.map(_.name).mkString(", ")}): set " +
            "outputTensor or outputMapping."
        )
    }
  }

  /** Refuses an input that pictures of these params cannot feed. */
  private def checkTaken(model: TensorManifest): Unit = {
    if (model.inputs.size != 1)
      refuse(
        s"The graph ${model.name} has ${model.inputs.size} inputs (${model.inputs.map(_.name).mkString(", ")}) but " +
          "TFImageTransformer feeds one: use TFTransformer."
      )
    val input =
      get(inputTensor).fold(model.inputs.head)(TensorNames.find(_, model.inputs, "input", model.name))
    val about = s"The input ${input.name} of the graph ${model.name} has the shape ${input.shownShape}"
    if (!TFImageTransformer.pictureTypes(input.dtype) || input.shape.size != 3)
      refuse(
        s"$about and the type ${input.dtype}, but pictures need [height, width, channels] of float32 or uint8: use " +
          "TFTransformer."
      )
    val needed = if ($(channelOrder) == "L") 1 else 3
    if (input.shape(2).exists(_ != needed))
      refuse(s"$about, but channelOrder ${$(channelOrder)} has $needed: set channelOrder.")
    get(inputSize) match {
      case Some(Array(height, width))
          if input.shape.take(2).zip(Seq(height, width)).exists { case (own, side) =>
            own.exists(_ != side)
          } =>
        refuse(s"$about, but inputSize is $height x $width: leave inputSize unset.")
      case None if input.shape(0).isEmpty != input.shape(1).isEmpty =>
        refuse(s"$about, with one side open: set inputSize.")
      case _ => ()
    }
  }

  /** Refuses an output that the columns cannot hold. */
  private def checkGiven(output: TensorSpec, model: TensorManifest): Unit = {
    val about =
      s"The output ${output.name} of the graph ${model.name} has the shape ${output.shownShape} and the type"
    val isPicture = output.shape.size == 3 && output.shape(2).forall(Set(1, 3, 4)) &&
      TFImageTransformer.pictureTypes(output.dtype)
    if (outputKind == OutputKind.Image && !isPicture)
      refuse(
        s"$about ${output.dtype}, but outputMode image needs [height, width, 1, 3 or 4] of uint8 or float32: set outputMode " +
          "to \"vector\" or \"array\"."
      )
  }

  private def refuse(message: String): Nothing = throw ErrorKind.InvalidArgument.exception(message)
}

object TFImageTransformer extends DefaultParamsReadable[TFImageTransformer] {

  private val pictureTypes = Set("float32", "uint8")

  override def read: MLReader[TFImageTransformer] = new StageReader(super.read)

  override def load(path: String): TFImageTransformer = read.load(path)
}
