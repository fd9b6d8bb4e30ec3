package sparkdl.engine

import scala.collection.mutable.ArrayBuffer

import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.spark.sql.Row
import org.apache.spark.sql.types.DataType

/** A row and what of it goes into the model, one value per input; `error`: why nothing can, else null. */
final case class InputRow(row: Row, values: Seq[Any], error: String = null)

/**
 * A row and what the model made of it.
 *
 * `outputs` are null where the row is invalid. Else each is an `Array[Float]` (pictures), a `Seq[Row(class, description,
 * probability)]` (`topK`), a row of Spark's image struct, or a number or nested `Seq` (tensors); `error` is the reason,
 * null where the row is valid.
 */
final case class RowResult(row: Row, outputs: Seq[Any], error: String) {

  /** The only output. */
  def output: Any = outputs.head
}

/**
 * The rows of a partition with the model's outputs, in order; one native call per batch.
 *
 * The model is opened at the first row, so an empty partition opens none, and is closed by this iterator: at the end of
 * the rows, on failure, and when the task ends early or is killed. A batch ends at `batchSize` rows or 64 MiB of input.
 *
 * @param kinds the Spark types of the inputs
 * @param flat whether each output is read as one `Array[Double]`, however its numbers are nested
 */
final class BatchIterator(
    rows: Iterator[InputRow],
    kinds: Seq[DataType],
    model: => NativeModel,
    batchSize: Int,
    metrics: Option[EngineMetrics] = None,
    flat: Boolean = false
) extends Iterator[RowResult] {
  import BatchIterator._

  private val caller = new ModelCaller(model, metrics)
  private var results: Iterator[RowResult] = Iterator.empty

  override def hasNext: Boolean = {
    while (!results.hasNext && rows.hasNext) results = run(nextRows())
    val more = results.hasNext
    if (!more) caller.close()
    more
  }

  override def next(): RowResult = if (hasNext) results.next() else Iterator.empty.next()

  private def nextRows(): ArrayBuffer[InputRow] = {
    val batch = new ArrayBuffer[InputRow](math.min(batchSize, 1 << 16))
    var bytes = 0L
    while (rows.hasNext && batch.size < batchSize && bytes < MaxBytes) {
      val row = rows.next()
      batch += row
      bytes += row.values.iterator.map(ArrowCells.bytesOf).sum
    }
    batch
  }

  private def run(batch: ArrayBuffer[InputRow]): Iterator[RowResult] = {
    val columns = kinds.indices.map(column => kinds(column) -> batch.map(_.values(column)))
    caller.call(columns)(take(batch, _))
  }

  /** The last column is the reasons, those before it are the outputs. */
  private def take(batch: ArrayBuffer[InputRow], root: VectorSchemaRoot): Iterator[RowResult] = {
    val outputs = (0 until root.getFieldVectors.size - 1).map(root.getVector(_))
    val error = root.getVector("error")
    val taken = batch.indices.map { i =>
      val values =
        outputs.map(vector => if (flat) ArrowCells.flat(vector, i) else ArrowCells.value(vector, i))
      val own = batch(i).error
      RowResult(
        batch(i).row,
        values,
        if (own != null) own else ArrowCells.value(error, i).asInstanceOf[String])
    }
    taken.iterator
  }
}

private[sparkdl] object BatchIterator {

  /** Bytes of rows that make a batch, however few they are. */
  val MaxBytes: Long = 64L << 20
}
