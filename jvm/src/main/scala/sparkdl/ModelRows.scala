package sparkdl

import org.apache.spark.TaskContext
import org.apache.spark.broadcast.Broadcast
import org.apache.spark.ml.linalg.Vectors
import org.apache.spark.sql.Row
import org.apache.spark.sql.types.{BinaryType, DataType, StringType, StructType}
import org.apache.spark.util.SerializableConfiguration

import sparkdl.engine._
import sparkdl.ffi.ErrorKind

/** A model that a task can open: its bundle, its options, and the settings of the session that asked for it. */
private[sparkdl] final case class TaskModel(
    bundle: ShippedBundle,
    options: Map[String, String],
    conf: EngineConf
) {

  def open(): NativeModel = NativeModel.open((options + ("model" -> bundle.file)).toSeq, conf)
}

/**
 * One partition of rows through a model: each row with its results, and the reason where there are none.
 */
private[sparkdl] final class ModelRows(
    model: TaskModel,
    input: RowInput,
    invalid: ModelRows.Invalid,
    output: ModelRows.Output,
    metrics: EngineMetrics,
    shown: String
) extends RowExtension {

  /** What plans show. */
  override def toString: String = s"Model $shown"

  private val flat = output.kind == OutputKind.Vector

  override def extend[A](rows: Iterator[Row])(join: (Row, Array[Any]) => A): Iterator[A] = {
    val read = input.read(rows)
    val results =
      new BatchIterator(read, input.kinds, model.open(), output.batchSize, Some(metrics), flat)
    results.zip(Iterator.iterate(0L)(_ + 1)).flatMap { case (result, row) =>
      if (result.error == null || invalid.action == "keep") Some(join(result.row, added(result)))
      else if (invalid.action == "skip") None
      else throw ErrorKind.InvalidRow.exception(refusal(result, row))
    }
  }

  /** The values of the new columns. */
  private def added(result: RowResult): Array[Any] = {
    val valid = result.error == null
    val values = new Array[Any](output.columns + (if (invalid.reasons) 1 else 0))
    if (valid) result.outputs.indices.foreach { index =>
      values(index) = value(result.row, result.outputs(index))
    }
    if (invalid.reasons && !valid) values(values.length - 1) = input.reason(result.row, result.error)
    values
  }

  private def value(row: Row, result: Any): Any = (output.kind, result) match {
    case (OutputKind.Vector, numbers: Array[Double]) => Vectors.dense(numbers)
    // The model knows pictures, not where they come from.
    case (OutputKind.Image, image: Row) => Row.fromSeq(input.name(row).orNull +: image.toSeq.drop(1))
    case (_, other) => other
  }

  private def refusal(result: RowResult, row: Long): String = {
    val place = s"in partition ${TaskContext.getPartitionId()}, row $row"
    s"Cannot use the ${input.noun} ${input.name(result.row).getOrElse(place)}: ${result.error}. " +
      "Set handleInvalid to \"keep\" or \"skip\" to go on without it."
  }
}

private[sparkdl] object ModelRows {

  /** What becomes of a row that cannot be used, and whether a column takes the reasons. */
  final case class Invalid(action: String, reasons: Boolean)

  /** What the results become, how many columns they are, and how many rows go into one native call. */
  final case class Output(kind: OutputKind, columns: Int, batchSize: Int)
}

/** What of a row goes into the model, and what the row is called where it cannot be used. */
private[sparkdl] sealed trait RowInput extends Serializable {

  /** The Spark types of what goes in. */
  def kinds: Seq[DataType]

  /** Rows with what of each goes in. */
  def read(rows: Iterator[Row]): Iterator[InputRow]

  /** What people call what stands in a row. */
  def noun: String

  /** The name of the file that a row stands for, as far as the row tells it. */
  def name(row: Row): Option[String]

  /** A reason as the column of reasons holds it. */
  def reason(row: Row, reason: String): String = reason
}

private[sparkdl] object RowInput {

  /** The columns that may name a row's file. */
  def names(schema: StructType): Seq[Int] = Seq("origin", "path").flatMap { name =>
    schema.fields.indices.find(i => schema(i).name == name && schema(i).dataType == StringType)
  }

  /** The first name in these columns. */
  def sibling(row: Row, names: Seq[Int]): Option[String] =
    names.iterator.map(index => row.getString(index)).find(name => name != null && name.nonEmpty)
}

/** A column of pictures, and the columns that may name their files. */
private[sparkdl] final case class PictureInput(column: Int, kind: DataType, names: Seq[Int])
    extends RowInput {

  override def kinds: Seq[DataType] = Seq(kind)

  override def read(rows: Iterator[Row]): Iterator[InputRow] =
    rows.map(row => InputRow(row, Seq(row.get(column))))

  override def noun: String = "picture"

  override def name(row: Row): Option[String] = RowInput.sibling(row, names).orElse {
    val own = Option.when(kind.isInstanceOf[StructType] && !row.isNullAt(column))(row.getStruct(column))
    own.map(_.getString(0)).filter(name => name != null && name.nonEmpty)
  }
}

private[sparkdl] object PictureInput {

  def apply(schema: StructType, column: String): PictureInput = {
    val index = schema.fieldIndex(column)
    PictureInput(index, schema(index).dataType, RowInput.names(schema))
  }
}

/** Columns of numbers, arrays and vectors, and the columns that may name what they belong to. */
private[sparkdl] final case class TensorInput(columns: Seq[Int], kinds: Seq[DataType], names: Seq[Int])
    extends RowInput {

  override def read(rows: Iterator[Row]): Iterator[InputRow] =
    rows.map(row => InputRow(row, columns.map(row.get)))

  override def noun: String = "row"

  override def name(row: Row): Option[String] = RowInput.sibling(row, names)
}

private[sparkdl] object TensorInput {

  def apply(schema: StructType, columns: Seq[String]): TensorInput = {
    val indices = columns.map(schema.fieldIndex)
    TensorInput(indices, indices.map(schema(_).dataType), RowInput.names(schema))
  }
}

/** A column of URIs, whose files are read. */
private[sparkdl] final case class FileInput(
    column: Int,
    ahead: Int,
    hadoop: Broadcast[SerializableConfiguration]
) extends RowInput {

  override def kinds: Seq[DataType] = Seq(BinaryType)

  override def read(rows: Iterator[Row]): Iterator[InputRow] =
    new FilesAhead(rows, column, ahead, hadoop.value.value)

  override def noun: String = "picture"

  override def name(row: Row): Option[String] = Option(row.getString(column))

  override def reason(row: Row, reason: String): String = name(row).fold(reason)(uri => s"$uri: $reason")
}
