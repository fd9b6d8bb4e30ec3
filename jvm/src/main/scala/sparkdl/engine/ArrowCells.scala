package sparkdl.engine

import java.nio.ByteOrder.LITTLE_ENDIAN
import java.nio.charset.StandardCharsets.UTF_8

import scala.annotation.tailrec
import scala.collection.{mutable, IndexedSeq}
import scala.collection.immutable.ArraySeq
import scala.jdk.CollectionConverters._

import org.apache.arrow.vector._
import org.apache.arrow.vector.complex.{FixedSizeListVector, ListVector, StructVector}
import org.apache.arrow.vector.types.FloatingPointPrecision.{DOUBLE, SINGLE}
import org.apache.arrow.vector.types.pojo.{ArrowType, Field, FieldType}
import org.apache.spark.ml.linalg.{DenseVector, SparseVector, SQLDataTypes}
import org.apache.spark.sql.Row
import org.apache.spark.sql.types._

/** Values of Spark's rows to the cells of Arrow's vectors and back. Arrays of primitives are copied as a whole. */
private[sparkdl] object ArrowCells {

  /** Arrow's field for values of a Spark type; an MLlib vector is the struct that Spark stores it as. */
  def field(name: String, kind: DataType): Field = kind match {
    case BinaryType => nullable(name, ArrowType.Binary.INSTANCE)
    case StringType => nullable(name, ArrowType.Utf8.INSTANCE)
    case BooleanType => nullable(name, ArrowType.Bool.INSTANCE)
    case ByteType => nullable(name, new ArrowType.Int(8, true))
    case ShortType => nullable(name, new ArrowType.Int(16, true))
    case IntegerType => nullable(name, new ArrowType.Int(32, true))
    case LongType => nullable(name, new ArrowType.Int(64, true))
    case FloatType => nullable(name, new ArrowType.FloatingPoint(SINGLE))
    case DoubleType => nullable(name, new ArrowType.FloatingPoint(DOUBLE))
    case ArrayType(element, _) => nullable(name, ArrowType.List.INSTANCE, field("element", element))
    case StructType(fields) =>
      nullable(name, ArrowType.Struct.INSTANCE, fields.map(f => field(f.name, f.dataType)).toIndexedSeq: _*)
    case SQLDataTypes.VectorType => field(name, vectorStruct)
    case other => throw new IllegalArgumentException(s"no model takes values of the type $other")
  }

  /** Fills a vector, whose field `field` gave, with values or nulls. */
  def fill(vector: FieldVector, values: IndexedSeq[Any]): Unit = vector match {
    case list: ListVector => fillList(list, values)
    case struct: StructVector =>
      struct.setInitialCapacity(values.size)
      struct.allocateNew()
      values.indices.foreach(i => if (values(i) == null) struct.setNull(i) else struct.setIndexDefined(i))
      (0 until struct.size).foreach { child =>
        fill(struct.getChildByOrdinal(child).asInstanceOf[FieldVector], values.map(part(_, child)))
      }
      struct.setValueCount(values.size)
    case single =>
      single.setInitialCapacity(values.size)
      single.allocateNew()
      val cells = writer(single)
      values.indices.foreach(i => if (values(i) == null) single.setNull(i) else cells.write(i, values(i)))
      single.setValueCount(values.size)
  }

  /** How many bytes a value takes in a batch, near enough to bound one. */
  def bytesOf(value: Any): Long = value match {
    case bytes: Array[Byte] => bytes.length.toLong
    case text: String => text.length.toLong
    case numbers: mutable.ArraySeq[_] if width(numbers.array) > 0 => width(numbers.array) * numbers.length
    case values: scala.collection.Seq[_] =>
      values.iterator.find(_ != null) match {
        case Some(_: scala.collection.Seq[_] | _: String | _: Array[Byte]) => values.iterator.map(bytesOf).sum
        case _ => 8L * values.length
      }
    case image: Row => image.toSeq.iterator.map(bytesOf).sum
    case vector: DenseVector => 8L * vector.size
    case vector: SparseVector => 12L * vector.numActives
    case null => 0L
    case _ => 8L
  }

  /** Bytes of an element of a primitive array, 0 for other arrays. */
  private def width(array: Any): Long = array match {
    case _: Array[Byte] | _: Array[Boolean] => 1L
    case _: Array[Short] => 2L
    case _: Array[Int] | _: Array[Float] => 4L
    case _: Array[Long] | _: Array[Double] => 8L
    case _ => 0L
  }

  /** The value of a cell as Spark's rows hold it; lists of numbers as arrays of primitives. */
  def value(vector: ValueVector, i: Int): Any =
    if (vector.isNull(i)) null
    else
      vector match {
        case v: FixedSizeListVector => floats(v.getDataVector, i * v.getListSize, v.getListSize)
        case v: ListVector => list(v.getDataVector, v.getElementStartIndex(i), v.getElementEndIndex(i))
        case v: StructVector =>
          Row.fromSeq((0 until v.size).map(child => value(v.getChildByOrdinal(child), i)))
        case v: VarCharVector => new String(v.get(i), UTF_8)
        case v: VarBinaryVector => v.get(i)
        case v: BitVector => v.get(i) != 0
        case v: TinyIntVector => v.get(i)
        case v: SmallIntVector => v.get(i)
        case v: IntVector => v.get(i)
        case v: BigIntVector => v.get(i)
        case v: Float4Vector => v.get(i)
        case v: Float8Vector => v.get(i)
        case v =>
          throw new IllegalArgumentException(s"native code sent ${v.getField}, which has no place in a row")
      }

  /** All numbers of a cell, however they are nested, row by row; null where the cell is. */
  def flat(vector: ValueVector, i: Int): Array[Double] =
    if (vector.isNull(i)) null else leaves(vector, i, i + 1)

  @tailrec
  private def leaves(vector: ValueVector, from: Int, until: Int): Array[Double] = vector match {
    case v: FixedSizeListVector => leaves(v.getDataVector, from * v.getListSize, until * v.getListSize)
    case v: ListVector =>
      val offsets = v.getOffsetBuffer
      leaves(v.getDataVector, offsets.getInt(from * 4L), offsets.getInt(until * 4L))
    case v: Float4Vector => Array.tabulate(until - from)(n => v.get(from + n).toDouble)
    case v: Float8Vector => Array.tabulate(until - from)(n => v.get(from + n))
    case v: IntVector => Array.tabulate(until - from)(n => v.get(from + n).toDouble)
    case v: BigIntVector => Array.tabulate(until - from)(n => v.get(from + n).toDouble)
    case v: SmallIntVector => Array.tabulate(until - from)(n => v.get(from + n).toDouble)
    case v: TinyIntVector => Array.tabulate(until - from)(n => v.get(from + n).toDouble)
    case v: BitVector => Array.tabulate(until - from)(n => v.get(from + n).toDouble)
    case v =>
      throw new IllegalArgumentException(s"native code sent ${v.getField}, which has no place in a vector")
  }

  private def list(data: FieldVector, from: Int, until: Int): Seq[Any] = data match {
    case _: Float4Vector => ArraySeq.unsafeWrapArray(floats(data, from, until - from))
    case v: Float8Vector => ArraySeq.unsafeWrapArray(Array.tabulate(until - from)(n => v.get(from + n)))
    case v: IntVector => ArraySeq.unsafeWrapArray(Array.tabulate(until - from)(n => v.get(from + n)))
    case v: BigIntVector => ArraySeq.unsafeWrapArray(Array.tabulate(until - from)(n => v.get(from + n)))
    case v: SmallIntVector => ArraySeq.unsafeWrapArray(Array.tabulate(until - from)(n => v.get(from + n)))
    case v: TinyIntVector => ArraySeq.unsafeWrapArray(Array.tabulate(until - from)(n => v.get(from + n)))
    case v: BitVector => ArraySeq.unsafeWrapArray(Array.tabulate(until - from)(n => v.get(from + n) != 0))
    case v => ArraySeq.tabulate[Any](until - from)(n => value(v, from + n))
  }

  private def floats(data: ValueVector, from: Int, size: Int): Array[Float] = {
    val values = new Array[Float](size)
    data.getDataBuffer.nioBuffer(from * 4L, size * 4).order(LITTLE_ENDIAN).asFloatBuffer().get(values)
    values
  }

  private def nullable(name: String, kind: ArrowType, children: Field*): Field =
    new Field(name, FieldType.nullable(kind), children.asJava)

  /** As Spark stores a vector: `type` 0 is sparse, with `size` and `indices`; 1 is dense. */
  private val vectorStruct = StructType(Seq(
    StructField("type", ByteType),
    StructField("size", IntegerType),
    StructField("indices", ArrayType(IntegerType)),
    StructField("values", ArrayType(DoubleType))
  ))

  private def part(value: Any, child: Int): Any = (value, child) match {
    case (null, _) => null
    case (row: Row, _) => row.get(child)
    case (_: DenseVector, 0) => 1.toByte
    case (vector: DenseVector, 3) => mutable.ArraySeq.make(vector.values)
    case (_: DenseVector, _) => null
    case (_: SparseVector, 0) => 0.toByte
    case (vector: SparseVector, 1) => vector.size
    case (vector: SparseVector, 2) => mutable.ArraySeq.make(vector.indices)
    case (vector: SparseVector, _) => mutable.ArraySeq.make(vector.values)
    case (other, _) => throw new IllegalArgumentException(s"${other.getClass} is no struct")
  }

  private def fillList(vector: ListVector, values: IndexedSeq[Any]): Unit = {
    vector.setInitialCapacity(values.size)
    vector.allocateNew()
    val pieces = new mutable.ArrayBuffer[scala.collection.Seq[Any]](values.size)
    values.indices.foreach { i =>
      values(i) match {
        case piece: scala.collection.Seq[_] =>
          vector.startNewValue(i)
          vector.endValue(i, piece.length)
          pieces += piece
        case _ => vector.setNull(i)
      }
    }
    val total = pieces.iterator.map(_.length).foldLeft(0)(Math.addExact)
    fillElements(vector.getDataVector, pieces, total)
    vector.setValueCount(values.size)
  }

  private def fillElements(
      data: FieldVector,
      pieces: IndexedSeq[scala.collection.Seq[Any]],
      total: Int): Unit = data match {
    case vector: BaseFixedWidthVector =>
      vector.allocateNew(total)
      vector.getValidityBuffer.setOne(0L, vector.getValidityBuffer.capacity)
      val cells = writer(vector)
      var at = 0
      pieces.foreach { piece =>
        piece match {
          case numbers: mutable.ArraySeq[_] if fits(vector, numbers.array) => copy(vector, at, numbers.array)
          case boxed =>
            boxed.indices.foreach { i =>
              if (boxed(i) == null) vector.setNull(at + i) else cells.write(at + i, boxed(i))
            }
        }
        at += piece.length
      }
      vector.setValueCount(total)
    case nested =>
      val flat = new mutable.ArrayBuffer[Any](total)
      pieces.foreach(flat ++= _)
      fill(nested, flat)
  }

  private def fits(vector: FieldVector, array: Any): Boolean = (vector, array) match {
    case (_: Float4Vector, _: Array[Float]) | (_: Float8Vector, _: Array[Double]) | (
          _: IntVector,
          _: Array[Int]) |
        (_: BigIntVector, _: Array[Long]) | (_: SmallIntVector, _: Array[Short]) |
        (_: TinyIntVector, _: Array[Byte]) =>
      true
    case _ => false
  }

  /** Copies an array to the cells from `at` on. */
  private def copy(vector: BaseFixedWidthVector, at: Int, array: Any): Unit = {
    val bytes = java.lang.reflect.Array.getLength(array) * vector.getTypeWidth
    val target = vector.getDataBuffer.nioBuffer(at.toLong * vector.getTypeWidth, bytes).order(LITTLE_ENDIAN)
    array match {
      case a: Array[Float] => target.asFloatBuffer().put(a)
      case a: Array[Double] => target.asDoubleBuffer().put(a)
      case a: Array[Int] => target.asIntBuffer().put(a)
      case a: Array[Long] => target.asLongBuffer().put(a)
      case a: Array[Short] => target.asShortBuffer().put(a)
      case a: Array[Byte] => target.put(a)
      case other => throw new IllegalArgumentException(s"${other.getClass} does not fit ${vector.getField}")
    }
    ()
  }

  /** Writes values that are not null; chosen once a vector, since there may be millions of cells. */
  private trait Writer { def write(i: Int, value: Any): Unit }

  private def writer(vector: FieldVector): Writer = vector match {
    case v: Float4Vector => (i, value) => v.setSafe(i, value.asInstanceOf[Float])
    case v: Float8Vector => (i, value) => v.setSafe(i, value.asInstanceOf[Double])
    case v: IntVector => (i, value) => v.setSafe(i, value.asInstanceOf[Int])
    case v: BigIntVector => (i, value) => v.setSafe(i, value.asInstanceOf[Long])
    case v: SmallIntVector => (i, value) => v.setSafe(i, value.asInstanceOf[Short])
    case v: TinyIntVector => (i, value) => v.setSafe(i, value.asInstanceOf[Byte])
    case v: BitVector => (i, value) => v.setSafe(i, if (value.asInstanceOf[Boolean]) 1 else 0)
    case v: VarBinaryVector => (i, value) => v.setSafe(i, value.asInstanceOf[Array[Byte]])
    case v: VarCharVector => (i, value) => v.setSafe(i, value.asInstanceOf[String].getBytes(UTF_8))
    case v => throw new IllegalArgumentException(s"${v.getField} takes no values")
  }
}
