package sparkdl

import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.param.shared.{HasInputCol, HasInputCols, HasOutputCol, HasOutputCols}
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}

import sparkdl.engine.{TensorManifest, TensorSpec}
import sparkdl.ffi.ErrorKind
import sparkdl.params.HasTensorNames

/**
 * Runs columns of numbers, arrays or vectors through a Keras model.
 *
 * An input takes arrays nested by its shape, or flat ones (row by row) and MLlib vectors, whose shape the model tells; a
 * plain number where its shape is [] or [1]. Integers become floats where the model takes floats; a number that the
 * model's type does not hold, a null or a wrong length makes the row invalid. Models of several inputs or outputs take
 * `inputCols` and `outputCols`, in the order of `inputNames` and `outputNames`.
 */
class KerasTransformer(override val uid: String)
    extends ModelFileTransformer
    with TensorStage
    with HasInputCol
    with HasInputCols
    with HasOutputCol
    with HasOutputCols
    with HasTensorNames {

  def this() = this(Identifiable.randomUID("KerasTransformer"))

  /** @group setParam */
  def setInputCol(value: String): this.type = set(inputCol, value)

  /** @group setParam */
  def setInputCols(value: Array[String]): this.type = set(inputCols, value)

  /** @group setParam */
  def setOutputCol(value: String): this.type = set(outputCol, value)

  /** @group setParam */
  def setOutputCols(value: Array[String]): this.type = set(outputCols, value)

  /** @group setParam */
  def setInputNames(value: Array[String]): this.type = set(inputNames, value)

  /** @group setParam */
  def setOutputNames(value: Array[String]): this.type = set(outputNames, value)

  override private[sparkdl] def checkParams(): Unit = {
    requireParams(modelFile)
    if (!isSet(inputCol) && !isSet(inputCols))
      throw ErrorKind.InvalidArgument.exception(
        s"${getClass.getSimpleName} needs the param inputCol or inputCols: set one of them first."
      )
    Seq[(Param[_], Param[_])](inputCol -> inputCols, outputCol -> outputCols).foreach { case (one, several) =>
      if (isSet(one) && isSet(several))
        throw ErrorKind.InvalidArgument.exception(
          s"${getClass.getSimpleName} takes either ${one.name} or ${several.name}, but both are set: clear one of them."
        )
    }
  }

  override def copy(extra: ParamMap): KerasTransformer = copied(defaultCopy[KerasTransformer](extra))

  override def toString: String =
    s"KerasTransformer: uid=$uid${get(modelFile).fold("")(file => s", modelFile=$file")}, outputMode=${$(outputMode)}"

  override private[sparkdl] def inputs: Seq[String] = get(inputCols).fold(Seq($(inputCol)))(_.toSeq)

  override private[sparkdl] def outputs: Seq[String] = get(outputCols).fold(Seq($(outputCol)))(_.toSeq)

  override private[sparkdl] def fed(model: TensorManifest): Seq[TensorSpec] =
    TensorColumns.inputs(model, inputs, get(inputNames).map(_.toSeq))

  override private[sparkdl] def fetched(model: TensorManifest): Seq[TensorSpec] =
    TensorColumns.outputs(model, outputs, get(outputNames).map(_.toSeq))
}

object KerasTransformer extends DefaultParamsReadable[KerasTransformer] {

  override def read: MLReader[KerasTransformer] = new StageReader(super.read)

  override def load(path: String): KerasTransformer = read.load(path)
}
