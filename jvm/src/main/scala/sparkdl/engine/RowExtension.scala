package sparkdl.engine

import org.apache.spark.sql.Row

/** Values for new columns, row by row; in a task. */
trait RowExtension extends Serializable {

  /** Joins each row that stays with its new values, in order. A value may be null. */
  def extend[A](rows: Iterator[Row])(join: (Row, Array[Any]) => A): Iterator[A]
}
