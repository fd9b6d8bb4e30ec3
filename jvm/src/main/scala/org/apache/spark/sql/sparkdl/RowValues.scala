package org.apache.spark.sql.sparkdl

import scala.collection.immutable.ArraySeq
import scala.collection.mutable

import org.apache.spark.sql.Row
import org.apache.spark.sql.catalyst.{CatalystTypeConverters, InternalRow}
import org.apache.spark.sql.catalyst.expressions.{GenericInternalRow, UnsafeArrayData}
import org.apache.spark.sql.catalyst.util.ArrayData
import org.apache.spark.sql.types._

/**
 * Values of rows as Spark holds them, read and written.
 *
 * @param seen places of the columns that are read
 * @param before their types
 * @param added types of what is written
 */
private[sparkdl] final class RowValues(seen: Seq[Int], before: Seq[DataType], added: Seq[DataType]) {
  import RowValues._

  private val places = seen.toArray
  private val readers = before.map(reader).toArray
  private val writers = added.map(writer).toArray

  /** The columns that are seen, whose values are converted when they are asked for. */
  def read(row: InternalRow): Row = new LazyRow(row, places, readers)

  /** What was given to `read`. */
  def internal(row: Row): InternalRow = row match {
    case read: LazyRow => read.internal
    case other => throw new IllegalArgumentException(s"not a row that was read here: ${other.getClass}")
  }

  def written(values: Array[Any]): InternalRow = {
    val cells = new Array[Any](writers.length)
    writers.indices.foreach { index =>
      if (values(index) != null) cells(index) = writers(index)(values(index))
    }
    new GenericInternalRow(cells)
  }
}

private object RowValues {

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
