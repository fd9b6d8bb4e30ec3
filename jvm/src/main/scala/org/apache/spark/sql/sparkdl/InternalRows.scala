package org.apache.spark.sql.sparkdl

import scala.collection.immutable.ArraySeq
import scala.collection.mutable

import org.apache.spark.TaskContext
import org.apache.spark.sql.{DataFrame, Dataset, Row}
import org.apache.spark.sql.catalyst.{CatalystTypeConverters, InternalRow}
import org.apache.spark.sql.catalyst.expressions._
import org.apache.spark.sql.catalyst.plans.logical.{LogicalPlan, MapPartitions, Project}
import org.apache.spark.sql.catalyst.util.ArrayData
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
      val readers = before.map(reader).toArray
      val writers = added.map(writer).toArray
      val places = seen.toArray
      val read = rows.map { row =>
        // Spark uses the memory of a row again for the next.
        new LazyRow(row.asInstanceOf[InternalRow].copy(), places, readers)
      }
      extension.extend(read) { (row, values) =>
        new JoinedRow(row.asInstanceOf[LazyRow].internal, cells(values, writers))
      }
    }
  }

  /** One row at a time, for a call that stands where no rows can be gathered. A task keeps its model from row to row. */
  private[sparkdl] final class OneByOne(extension: RowExtension, kinds: Seq[DataType], added: Seq[DataType]) {
    private val places = kinds.indices.toArray
    private val readers = kinds.map(reader).toArray
    private val writers = added.map(writer).toArray
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
      val read = new LazyRow(row, places, readers)
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

    private def results(rows: Iterator[Row]) = extension.extend(rows)((_, values) => cells(values, writers))
  }

  private def cells(values: Array[Any], writers: Array[Any => Any]): InternalRow = {
    val cells = new Array[Any](values.length)
    values.indices.foreach { index =>
      if (values(index) != null) cells(index) = writers(index)(values(index))
    }
    new GenericInternalRow(cells)
  }

  /** A value as rows of the public interface have it; arrays of numbers as primitive ones, where none is null. */
  private def reader(kind: DataType): (InternalRow, Int) => Any = {
    val convert = CatalystTypeConverters.createToScalaConverter(kind)
    def any(row: InternalRow, index: Int): Any = convert(row.get(index, kind))
    kind match {
      case ArrayType(element, containsNull) if isNumber(element) =>
        (row, index) => {
          val array = row.getArray(index)
          if (containsNull && hasNull(array)) any(row, index) else primitive(array, element)
        }
      case _ => any
    }
  }

  private def hasNull(array: ArrayData): Boolean = {
    val count = array.numElements()
    var index = 0
    while (index < count && !array.isNullAt(index)) index += 1
    index < count
  }

  private def isNumber(kind: DataType): Boolean = kind match {
    case FloatType | DoubleType | IntegerType | LongType | ShortType | ByteType => true
    case _ => false
  }

  private def primitive(array: ArrayData, element: DataType): mutable.ArraySeq[_] = element match {
    case FloatType => mutable.ArraySeq.make(array.toFloatArray())
    case DoubleType => mutable.ArraySeq.make(array.toDoubleArray())
    case IntegerType => mutable.ArraySeq.make(array.toIntArray())
    case LongType => mutable.ArraySeq.make(array.toLongArray())
    case ShortType => mutable.ArraySeq.make(array.toShortArray())
    case _ => mutable.ArraySeq.make(array.toByteArray())
  }

  private def writer(kind: DataType): Any => Any = {
    val convert = CatalystTypeConverters.createToCatalystConverter(kind)
    kind match {
      case ArrayType(element, _) if isNumber(element) => {
        case numbers: Array[Float] => UnsafeArrayData.fromPrimitiveArray(numbers)
        case numbers: ArraySeq[_] => numbers.unsafeArray match {
            case numbers: Array[Float] => UnsafeArrayData.fromPrimitiveArray(numbers)
            case numbers: Array[Double] => UnsafeArrayData.fromPrimitiveArray(numbers)
            case numbers: Array[Int] => UnsafeArrayData.fromPrimitiveArray(numbers)
            case numbers: Array[Long] => UnsafeArrayData.fromPrimitiveArray(numbers)
            case numbers: Array[Short] => UnsafeArrayData.fromPrimitiveArray(numbers)
            case numbers: Array[Byte] => UnsafeArrayData.fromPrimitiveArray(numbers)
            case _ => convert(numbers)
          }
        case other => convert(other)
      }
      case _ => convert
    }
  }

  /** Some columns of a row, whose values are converted when they are asked for. */
  private final class LazyRow(
      val internal: InternalRow,
      places: Array[Int],
      readers: Array[(InternalRow, Int) => Any])
      extends Row {

    override def length: Int = readers.length

    override def isNullAt(index: Int): Boolean = internal.isNullAt(places(index))

    override def get(index: Int): Any = {
      val place = places(index)
      if (internal.isNullAt(place)) null else readers(index)(internal, place)
    }

    override def copy(): Row = this
  }
}
