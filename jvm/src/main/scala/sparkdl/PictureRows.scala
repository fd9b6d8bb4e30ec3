package sparkdl

import org.apache.spark.{TaskContext, TaskKilledException}
import org.apache.spark.sql.Row
import org.apache.spark.sql.types.DataType

import sparkdl.engine.{ArrowCells, EngineConf, PictureFunction, RowExtension}

/**
 * One partition of rows with what a function makes of their pictures: its value, and with `reasons` why there is none.
 *
 * @param column the place of the pictures, binary or image structs as `kind` says
 * @param options of the function, except `threads`
 */
private[sparkdl] final class PictureRows(
    function: PictureFunction,
    kind: DataType,
    column: Int,
    options: Seq[(String, String)],
    reasons: Boolean,
    conf: EngineConf
) extends RowExtension {

  /** What plans show. */
  override def toString: String = s"Pictures $function"

  override def extend[A](rows: Iterator[Row])(join: (Row, Array[Any]) => A): Iterator[A] = {
    val waiting = rows.map(row => (row, row.get(column)))
    Iterator.continually(batch(waiting)).takeWhile(_.nonEmpty).flatMap { batch =>
      if (Option(TaskContext.get()).exists(_.isInterrupted()))
        throw new TaskKilledException("the task was killed between two batches")
      val found = function(kind, batch.map(_._2), options, conf)
      batch.iterator.zip(found.iterator).map { case ((row, _), (value, reason)) =>
        join(row, if (reasons) Array[Any](value, reason) else Array[Any](value))
      }
    }
  }

  /** Decoded pictures are many times larger than their files, so a batch is small. */
  private def batch(rows: Iterator[(Row, Any)]): IndexedSeq[(Row, Any)] = {
    val taken = IndexedSeq.newBuilder[(Row, Any)]
    var (count, bytes) = (0, 0L)
    while (rows.hasNext && count < PictureRows.mostRows && bytes < PictureRows.mostBytes) {
      val row = rows.next()
      taken += row
      count += 1
      bytes += ArrowCells.bytesOf(row._2)
    }
    taken.result()
  }
}

private object PictureRows {
  private val mostRows = 16
  private val mostBytes = 4L << 20
}
