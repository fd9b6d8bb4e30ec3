package sparkdl

import scala.jdk.CollectionConverters._

import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}
import org.apache.spark.sql.types.StructField

import sparkdl.engine.{BundleSource, CacheFolder, Manifest, TensorManifest, TensorSpec}
import sparkdl.ffi.ErrorKind
import sparkdl.params.{HasAllowUnsafeOps, HasCastInputs, HasInputMapping, HasOutputMapping, HasTFInputGraph}

/**
 * Runs columns through a TensorFlow graph with any number of inputs and outputs.
 *
 * A column feeds an input as plain values (for rows of shapes [] and [1]), as arrays nested as deep as the shape of a row,
 * or flat, row by row: as an array or an MLlib vector. Its type must be the tensor's, unless `castInputs` is set: float for
 * float32, double for float64, int for int32, bigint for int64, smallint for uint8, boolean for bool; MLlib vectors go to
 * either float type. A row with a null, or of another shape, is invalid.
 *
 * An output becomes arrays nested by the shape of a row, of numbers of its type (uint8 as smallint), or a vector. The new
 * columns come in the order of their names.
 */
class TFTransformer(override val uid: String)
    extends ModelTransformer
    with TensorStage
    with HasTFInputGraph
    with HasAllowUnsafeOps
    with HasInputMapping
    with HasOutputMapping
    with HasCastInputs {

  def this() = this(Identifiable.randomUID("TFTransformer"))

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setTfInputGraph(value: TFInputGraph): this.type = setTfInputGraph(value.path)

  /**
   * The path or URI of the bundle of a graph.
   * @group setParam
   */
  def setTfInputGraph(value: String): this.type = setNaming(tfInputGraph, value)

  /**
   * Column to tensor, by its name or its key in the signature. Every input of the graph needs a column.
   * @group setParam
   */
  def setInputMapping(value: Map[String, String]): this.type = set(inputMapping, value)

  /** @group setParam */
  def setInputMapping(value: java.util.Map[String, String]): this.type = setInputMapping(value.asScala.toMap)

  /**
   * Tensor, by its name or its key in the signature, to new column.
   * @group setParam
   */
  def setOutputMapping(value: Map[String, String]): this.type = set(outputMapping, value)

  /** @group setParam */
  def setOutputMapping(value: java.util.Map[String, String]): this.type =
    setOutputMapping(value.asScala.toMap)

  /** @group setParam */
  def setCastInputs(value: Boolean): this.type = set(castInputs, value)

  /** @group setParam */
  def setAllowUnsafeOps(value: Boolean): this.type = set(allowUnsafeOps, value)

  override private[sparkdl] def modelParam: String = tfInputGraph.name

  override private[sparkdl] def namingParams: Seq[Param[_]] = Seq(tfInputGraph, expectedSha256)

  override private[sparkdl] def namedSource: BundleSource = {
    val path = $(tfInputGraph)
    if (!path.endsWith(CacheFolder.extension))
      throw ErrorKind.InvalidArgument.exception(
        s"tfInputGraph must be a TFInputGraph or the path of its bundle (*.sparkdl) but was $path: read the graph with " +
          "TFInputGraph.fromSavedModelWithSignature or another of its methods."
      )
    BundleSource.File(path, get(expectedSha256))
  }

  override private[sparkdl] def checkParams(): Unit = requireParams(tfInputGraph, inputMapping, outputMapping)

  override private[sparkdl] def inputs: Seq[String] = $(inputMapping).keys.toSeq.sorted

  override private[sparkdl] def outputs: Seq[String] = $(outputMapping).values.toSeq.sorted

  override private[sparkdl] def tensors(manifest: Manifest): TensorManifest = manifest match {
    case found: TensorManifest => found
    case _ =>
      throw ErrorKind.InvalidArgument.exception(
        s"TFTransformer takes graphs on tensors, but ${$(tfInputGraph)} is a bundle for pictures: use it as modelName of " +
          "DeepImageFeaturizer or DeepImagePredictor."
      )
  }

  override private[sparkdl] def fed(model: TensorManifest): Seq[TensorSpec] = {
    val found =
      inputs.map(column => TensorNames.find($(inputMapping)(column), model.inputs, "input", model.name))
    found.zipWithIndex.foreach { case (tensor, index) =>
      val first = found.indexOf(tensor)
      if (first < index)
        throw ErrorKind.InvalidArgument.exception(
          s"The columns ${inputs(first)} and ${inputs(index)} both feed the input ${tensor.name} of the graph " +
            s"${model.name}: leave one of them out of inputMapping."
        )
    }
    model.inputs.diff(found).headOption.foreach { missing =>
      throw ErrorKind.InvalidArgument.exception(
        s"The input ${missing.name} of the graph ${model.name} has no column: add it to inputMapping."
      )
    }
    found
  }

  override private[sparkdl] def fetched(model: TensorManifest): Seq[TensorSpec] = {
    val names = $(outputMapping).map(_.swap)
    outputs.map(column => TensorNames.find(names(column), model.outputs, "output", model.name))
  }

  override private[sparkdl] def task: Map[String, String] =
    super.task + ("allowUnsafeOps" -> $(allowUnsafeOps).toString)

  override private[sparkdl] def checkColumn(
      field: StructField,
      input: TensorSpec,
      model: TensorManifest): Unit = {
    if (! $(castInputs)) TensorColumns.checkSame(field, input, model)
    super.checkColumn(field, input, model)
  }

  override def copy(extra: ParamMap): TFTransformer = copied(defaultCopy[TFTransformer](extra))

  override def toString: String =
    s"TFTransformer: uid=$uid${get(tfInputGraph).fold("")(graph => s", tfInputGraph=$graph")}, outputMode=${$(outputMode)}"
}

object TFTransformer extends DefaultParamsReadable[TFTransformer] {

  override def read: MLReader[TFTransformer] = new StageReader(super.read)

  override def load(path: String): TFTransformer = read.load(path)
}
