package sparkdl

import com.fasterxml.jackson.databind.ObjectMapper
import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.param.shared.{HasInputCol, HasInputCols, HasOutputCol, HasOutputCols}
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.types.{StructField, StructType}

import sparkdl.engine.{Manifest, TensorManifest}
import sparkdl.ffi.ErrorKind
import sparkdl.params.{HasHandleInvalidRow, HasTensorNames, HasTensorOutputMode}

/**
 * Runs columns of numbers, arrays or vectors through a Keras model.
 *
 * An input takes arrays nested by its shape, or flat ones (row by row) and MLlib vectors, whose shape the model tells; a
 * plain number where its shape is [] or [1]. Integers become floats where the model takes floats; a number that the
 * model's type does not hold, a null or a wrong length makes the row invalid. Models of several inputs or outputs take
 * `inputCols` and `outputCols`, in the order of `inputNames` and `outputNames`.
 */
final class KerasTransformer(override val uid: String)
    extends ModelFileTransformer
    with HasInputCol
    with HasInputCols
    with HasOutputCol
    with HasOutputCols
    with HasTensorNames
    with HasTensorOutputMode
    with HasHandleInvalidRow {

  def this() = this(Identifiable.randomUID("KerasTransformer"))

  setDefault(batchSize, 256)

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

  /** @group setParam */
  def setOutputMode(value: String): this.type = set(outputMode, value)

  override private[sparkdl] def checkParams(): Unit = {
    requireParams(modelFile)
    if (!isSet(inputCol) && !isSet(inputCols))
      throw ErrorKind.InvalidArgument.exception(
        "KerasTransformer needs the param inputCol or inputCols: set one of them first."
      )
    Seq[(Param[_], Param[_])](inputCol -> inputCols, outputCol -> outputCols).foreach { case (one, several) =>
      if (isSet(one) && isSet(several))
        throw ErrorKind.InvalidArgument.exception(
          s"KerasTransformer takes either ${one.name} or ${several.name}, but both are set: clear one of them."
        )
    }
  }

  override private[sparkdl] def checkInput(schema: StructType): Unit =
    inputs.foreach(StageColumns.find(schema, _))

  override private[sparkdl] def outputColumns: Seq[String] = outputs

  override private[sparkdl] def checkModel(schema: StructType, manifest: Manifest): Unit = {
    val model = tensors(manifest)
    fed(model).zip(inputs).foreach { case (input, column) =>
      TensorColumns.checkInput(StageColumns.find(schema, column), input, model)
    }
  }

  override private[sparkdl] def taskOptions(manifest: Manifest): Map[String, String] = {
    val model = tensors(manifest)
    val json = new ObjectMapper()
    Map(
      "task" -> "tensors",
      "inputs" -> json.writeValueAsString(fed(model).map(_.name).toArray),
      "outputs" -> json.writeValueAsString(fetched(model).map(_.name).toArray)
    )
  }

  override private[sparkdl] def rowInput(dataset: Dataset[_], manifest: Manifest): RowInput =
    TensorInput(dataset.schema, inputs)

  override private[sparkdl] def outputKind: OutputKind =
    if ($(outputMode) == "vector") OutputKind.Vector else OutputKind.Array

  override private[sparkdl] def numbersPerRow(manifest: Manifest): Long =
    fetched(tensors(manifest)).map(_.size.getOrElse(0).toLong).sum

  override private[sparkdl] def outputFields(manifest: Option[Manifest]): Seq[StructField] =
    manifest.map(tensors).toSeq.flatMap { model =>
      outputs.zip(fetched(model)).map { case (column, output) =>
        if (outputKind == OutputKind.Vector) StageColumns.vector(column, output.size)
        else StructField(column, TensorColumns.outputType(output))
      }
    }

  override def copy(extra: ParamMap): KerasTransformer = copied(defaultCopy[KerasTransformer](extra))

  override def toString: String =
    s"KerasTransformer: uid=$uid${get(modelFile).fold("")(file => s", modelFile=$file")}, outputMode=${$(outputMode)}"

  private def inputs: Seq[String] = get(inputCols).fold(Seq($(inputCol)))(_.toSeq)

  private def outputs: Seq[String] = get(outputCols).fold(Seq($(outputCol)))(_.toSeq)

  private def fed(model: TensorManifest) =
    TensorColumns.inputs(model, inputs, get(inputNames).map(_.toSeq))

  private def fetched(model: TensorManifest) =
    TensorColumns.outputs(model, outputs, get(outputNames).map(_.toSeq))
}

object KerasTransformer extends DefaultParamsReadable[KerasTransformer] {

  override def read: MLReader[KerasTransformer] = new StageReader(super.read)

  override def load(path: String): KerasTransformer = read.load(path)
}
