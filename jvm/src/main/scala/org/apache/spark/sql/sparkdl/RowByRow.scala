package org.apache.spark.sql.sparkdl

import org.apache.spark.TaskContext
import org.apache.spark.sql.Row
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.types.DataType

import _root_.sparkdl.engine.RowExtension

/** One row at a time, for a call that stands where no rows can be gathered. A task keeps its model from row to row. */
private[sparkdl] final class RowByRow(extension: RowExtension, kinds: Seq[DataType], added: Seq[DataType]) {
  private val values = new RowValues(kinds.indices, kinds, added)
  private var waiting: Option[Row] = None

  private val fed = new Iterator[Row] {
    override def hasNext: Boolean = waiting.isDefined
    override def next(): Row = {
      val row = waiting.get
      waiting = None
      row
    }
  }
  private lazy val ofTask = results(fed)

  /** The new columns of a row with these columns. */
  def apply(row: InternalRow): InternalRow = {
    val read = values.read(row)
    if (TaskContext.get() == null) {
      val once = results(Iterator.single(read))
      val found = once.next()
      // The end of the rows closes the model, which no task does here.
      once.hasNext
      found
    } else {
      waiting = Some(read)
      ofTask.next()
    }
  }

  private def results(rows: Iterator[Row]) = extension.extend(rows)((_, results) => values.written(results))
}
