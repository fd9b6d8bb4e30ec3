package sparkdl

import org.apache.spark.TaskContext
import org.apache.spark.ml.linalg.Vectors
import org.apache.spark.sql.Row
import org.apache.spark.sql.types.{StringType, StructType}

import sparkdl.engine.{BatchIterator, EngineConf, EngineMetrics, NativeModel, RowResult, ShippedBundle}
import sparkdl.ffi.ErrorKind

/** A model that a task can open: its bundle, its options, and the settings of the session that asked for it. */
private[sparkdl] final case class PictureModel(
    bundle: ShippedBundle,
    options: Map[String, String],
    conf: EngineConf
) {

  def open(): NativeModel = NativeModel.open((options + ("model" -> bundle.file)).toSeq, conf)
}

/**
 * One partition of pictures through a model: each row with its result, and the reason where there is none.
 */
private[sparkdl] final class PictureRows(
    model: PictureModel,
    input: PictureRows.Input,
    invalid: PictureRows.Invalid,
    output: OutputKind,
    metrics: EngineMetrics
) extends (Iterator[Row] => Iterator[Row])
    with Serializable {

  override def apply(rows: Iterator[Row]): Iterator[Row] = {
    val results = new BatchIterator(rows, input.column, model.open(), input.batchSize, Some(metrics))
    results.zip(Iterator.iterate(0L)(_ + 1)).flatMap { case (result, row) =>
      if (result.error == null || invalid.action == "keep") Some(extended(result))
      else if (invalid.action == "skip") None
      else throw ErrorKind.InvalidRow.exception(refusal(result, row))
    }
  }

  private def extended(result: RowResult): Row = {
    val width = result.row.length
    val values = new Array[Any](width + (if (invalid.reasons) 2 else 1))
    var index = 0
    while (index < width) {
      values(index) = result.row.get(index)
      index += 1
    }
    values(width) = if (result.error == null) value(result.output) else null
    if (invalid.reasons) values(width + 1) = result.error
    Row.fromSeq(values.toIndexedSeq)
  }

  private def value(result: Any): Any = (output, result) match {
    case (OutputKind.Vector, numbers: Array[Float]) => Vectors.dense(numbers.map(_.toDouble))
    case (_, other) => other
  }

  private def refusal(result: RowResult, row: Long): String = {
    val name = input.name(result.row).getOrElse(s"in partition ${TaskContext.getPartitionId()}, row $row")
    s"Cannot use the picture $name: ${result.error}. Set handleInvalid to \"keep\" or \"skip\" to go on without it."
  }
}

private[sparkdl] object PictureRows {

  /** What becomes of a row without a usable picture, and whether a column takes the reasons. */
  final case class Invalid(action: String, reasons: Boolean)

  /** Where the pictures stand in a row, and which columns may name their files. */
  final case class Input(column: Int, isStruct: Boolean, names: Seq[Int], batchSize: Int) {

    /** The name of the file, as far as the row tells it. */
    def name(row: Row): Option[String] = {
      val siblings = names.iterator.map(index => row.getString(index))
      val own = Iterator.single(column).filter(index => isStruct && !row.isNullAt(index)).map(index =>
        row.getStruct(index).getString(0))
      (siblings ++ own).find(name => name != null && name.nonEmpty)
    }
  }

  object Input {

    def apply(schema: StructType, column: String, batchSize: Int): Input = {
      val names = Seq("origin", "path").flatMap { name =>
        schema.fields.indices.find(i => schema(i).name == name && schema(i).dataType == StringType)
      }
      val index = schema.fieldIndex(column)
      Input(index, schema(index).dataType.isInstanceOf[StructType], names, batchSize)
    }
  }
}
