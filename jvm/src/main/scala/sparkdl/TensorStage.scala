package sparkdl

import com.fasterxml.jackson.databind.ObjectMapper
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.types.{StructField, StructType}

import sparkdl.engine.{Manifest, TensorManifest, TensorSpec}
import sparkdl.params.{HasHandleInvalidRow, HasTensorOutputMode}

/** A stage that runs columns of numbers through a model on tensors: what [[KerasTransformer]] and [[TFTransformer]] share. */
private[sparkdl] trait TensorStage extends ModelTransformer with HasTensorOutputMode
    with HasHandleInvalidRow {

  setDefault(batchSize, 256)

  /** @group setParam */
  def setOutputMode(value: String): this.type = set(outputMode, value)

  /** The columns that feed inputs. */
  private[sparkdl] def inputs: Seq[String]

  /** The columns that outputs become. */
  private[sparkdl] def outputs: Seq[String]

  /** The model's inputs and outputs. */
  private[sparkdl] def tensors(manifest: Manifest): TensorManifest

  /** The model's inputs in the order of the columns. */
  private[sparkdl] def fed(model: TensorManifest): Seq[TensorSpec]

  /** The model's outputs in the order of the columns. */
  private[sparkdl] def fetched(model: TensorManifest): Seq[TensorSpec]

  /** What the native model computes, without the names of its inputs and outputs. */
  private[sparkdl] def task: Map[String, String] = Map("task" -> "tensors", "allowUnsafeOps" -> "false")

  /** Refuses a column whose values cannot be the model's input. */
  private[sparkdl] def checkColumn(field: StructField, input: TensorSpec, model: TensorManifest): Unit =
    TensorColumns.checkInput(field, input, model)

  override private[sparkdl] def checkInput(schema: StructType): Unit =
    inputs.foreach(StageColumns.find(schema, _))

  override private[sparkdl] def outputColumns: Seq[String] = outputs

  override private[sparkdl] def checkModel(schema: StructType, manifest: Manifest): Unit = {
    val model = tensors(manifest)
    model.checkSafe(allowed = task("allowUnsafeOps").toBoolean)
    (model.inputs ++ fetched(model)).foreach(_.checkRows(s"the model ${model.name}"))
    fed(model).zip(inputs).foreach { case (input, column) =>
      checkColumn(StageColumns.find(schema, column), input, model)
    }
    TensorColumns.checkOutputs(fetched(model), outputKind, model)
  }

  override private[sparkdl] def taskOptions(manifest: Manifest): Map[String, String] = {
    val model = tensors(manifest)
    val json = new ObjectMapper()
    task ++ Map(
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
}
