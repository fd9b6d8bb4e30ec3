package org.apache.spark.sql.sparkdl

import org.apache.spark.sql.{DataFrame, Dataset}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions._
import org.apache.spark.sql.catalyst.plans.logical.{LogicalPlan, MapPartitions, Project}
import org.apache.spark.sql.classic
import org.apache.spark.sql.types._

import _root_.sparkdl.engine.RowExtension

/**
 * Rows in the form in which Spark holds them, with columns more: what is not looked at is copied as it lies, and arrays of
 * numbers are read and written as a whole. Through the public interface every value of every row is converted to an object
 * and back, each number of an array by itself.
 *
 * This package uses what Spark keeps to itself; who calls it goes on without it where it is missing.
 */
object InternalRows {

  /** A dataset with columns more. Of the rows that `extension` sees every field may be read, and is converted then. */
  def appended(dataset: Dataset[_], extension: RowExtension, fields: Seq[StructField]): DataFrame = {
    val session = dataset.sparkSession.asInstanceOf[classic.SparkSession]
    val plan = dataset.asInstanceOf[classic.Dataset[_]].logicalPlan
    val (row, mapped) = extended(plan, plan.output.indices, extension, fields)
    val columns = (dataset.schema.fields.toSeq ++ fields).zipWithIndex.map { case (field, index) =>
      Alias(GetStructField(row, index), field.name)(explicitMetadata = Some(field.metadata))
    }
    classic.Dataset.ofRows(session, Project(columns, mapped))
  }

  /** The same of a plan whose own columns stay what they are, before new ones: `extension` sees the columns at these places. */
  private[sparkdl] def appended(
      plan: LogicalPlan,
      seen: Seq[Int],
      extension: RowExtension,
      fields: Seq[StructField])(columns: Seq[Expression] => Seq[NamedExpression]): LogicalPlan = {
    val (row, mapped) = extended(plan, seen, extension, fields)
    val own = plan.output.zipWithIndex.map { case (column, index) =>
      Alias(GetStructField(row, index), column.name)(
        exprId = column.exprId,
        qualifier = column.qualifier,
        explicitMetadata = Some(column.metadata))
    }
    val added = fields.indices.map(index => GetStructField(row, plan.output.size + index))
    Project(own ++ columns(added), mapped)
  }

  /** A plan of one column, a struct of those of `plan` and the new ones, and that column. */
  private def extended(
      plan: LogicalPlan,
      seen: Seq[Int],
      extension: RowExtension,
      fields: Seq[StructField]): (AttributeReference, LogicalPlan) = {
    val names = plan.output.indices.map(index => Literal(s"_$index"))
    val whole = CreateNamedStruct(names.zip(plan.output).flatMap { case (name, column) => Seq(name, column) })
    val before = plan.output.map(column => StructField(column.name, column.dataType, column.nullable))
    // Not by `SerializeFromObject`: Spark looks into that, and for a field of a field leaves out others beside it.
    val row = AttributeReference("row", StructType(before ++ fields), nullable = false)()
    val run = new Run(extension, seen, seen.map(plan.output(_).dataType), fields.map(_.dataType))
    (row, MapPartitions(run, row, Project(Seq(Alias(whole, "row")()), plan)))
  }

  /** One partition. */
  private final class Run(
      extension: RowExtension,
      seen: Seq[Int],
      before: Seq[DataType],
      added: Seq[DataType])
      extends (Iterator[Any] => Iterator[Any])
      with Serializable {

    /** What EXPLAIN shows. */
    override def toString: String = extension.toString

    override def apply(rows: Iterator[Any]): Iterator[Any] = {
      val values = new RowValues(seen, before, added)
      // Spark uses the memory of a row again for the next.
      val read = rows.map(row => values.read(row.asInstanceOf[InternalRow].copy()))
      extension.extend(read)((row, results) => new JoinedRow(values.internal(row), values.written(results)))
    }
  }
}
