package sparkdl.sql

import scala.util.Try

import org.apache.spark.sql.types.{DataType, StructField}

import sparkdl.engine.RowExtension

/** A function of rows that is computed for many at a time: what it gives, and what makes it of columns of given types. */
trait BatchFunction extends Serializable {

  /** Names of what it takes: one column for each, or one struct with fields of these names. */
  def inputs: Seq[String]

  /** What it gives; several make a struct. */
  def outputs: Seq[StructField]

  /** What makes the outputs of columns of these types, nullable or not; an error says what does not fit. */
  def rows(kinds: Seq[DataType]): Try[RowExtension]

  /** What it has in common with functions that can be computed together with it, on the same columns. */
  def run: Option[Any] = None

  /** This function and others of the same `run`: the outputs of all, in order. */
  def joined(others: Seq[BatchFunction]): BatchFunction = {
    require(others.isEmpty, "nothing is computed together with this function")
    this
  }
}
