package sparkdl.engine

import scala.collection.{mutable, IndexedSeq}
import scala.collection.immutable.ArraySeq
import scala.jdk.CollectionConverters._

import org.apache.arrow.memory.RootAllocator
import org.apache.arrow.vector.TinyIntVector
import org.apache.spark.ml.linalg.{SQLDataTypes, Vectors}
import org.apache.spark.sql.Row
import org.apache.spark.sql.types._
import org.scalatest.funsuite.AnyFunSuite

/** Values of rows to Arrow's cells and back. */
class ArrowCellsSuite extends AnyFunSuite {

  private def through[A](
      kind: DataType,
      values: IndexedSeq[Any])(read: org.apache.arrow.vector.FieldVector => A): A = {
    val allocator = new RootAllocator
    try {
      val vector = ArrowCells.field("x", kind).createVector(allocator)
      try {
        ArrowCells.fill(vector, values)
        read(vector)
      } finally vector.close()
    } finally allocator.close()
  }

  private def back(kind: DataType, values: Any*): Seq[Any] =
    through(kind, values.toIndexedSeq)(vector => values.indices.map(ArrowCells.value(vector, _)))

  test("numbers of every type come back as they went, and nulls as nulls") {
    Seq[(DataType, Seq[Any])](
      ByteType -> Seq(1.toByte, null, (-2).toByte),
      ShortType -> Seq(1.toShort, null, (-2).toShort),
      BinaryType -> Seq(null),
      IntegerType -> Seq(1, null, Int.MinValue),
      LongType -> Seq(1L, null, Long.MaxValue),
      FloatType -> Seq(1.5f, null),
      DoubleType -> Seq(1.5, null),
      BooleanType -> Seq(true, null, false),
      StringType -> Seq("a", null, "ü")
    ).foreach { case (kind, values) => assert(back(kind, values: _*) === values) }
  }

  test(
    "arrays of primitives and of boxed numbers are the same cells, and come back as arrays of primitives") {
    val kind = ArrayType(FloatType)
    val primitive = mutable.ArraySeq.make(Array(1f, 2f, 3f))
    val boxed = mutable.ArraySeq.make(Array[AnyRef](Float.box(4f), Float.box(5f)))
    val Seq(first, second, third, none) =
      back(kind, primitive, boxed, mutable.ArraySeq.make(Array[Float]()), null): @unchecked
    assert(first.isInstanceOf[ArraySeq.ofFloat] && second.isInstanceOf[ArraySeq.ofFloat])
    assert(Seq(first, second, third, none) === Seq(Seq(1f, 2f, 3f), Seq(4f, 5f), Seq(), null))
    assert(back(kind, primitive, primitive) === Seq(primitive, primitive))
    Seq[(DataType, Array[_])](
      DoubleType -> Array(1.0, 2.0),
      IntegerType -> Array(1, 2),
      LongType -> Array(1L, 2L),
      ShortType -> Array[Short](1, 2),
      ByteType -> Array[Byte](1, 2),
      StringType -> Array("a", "ü"),
      BooleanType -> Array(true, false)
    ).foreach { case (element, array) =>
      val values = mutable.ArraySeq.make(array)
      assert(back(ArrayType(element), values, null, values) === Seq(values, null, values))
    }
  }

  test("nested arrays keep their shape, their nulls and their order, and are one array when read flat") {
    val kind = ArrayType(ArrayType(IntegerType))
    val inner = Seq(Seq(1, 2), Seq(3, 4), Seq(5, 6)).map(pair => mutable.ArraySeq.make(pair.toArray))
    assert(back(kind, inner.take(2), null, inner, Seq(null, inner.head)) ===
      Seq(inner.take(2), null, inner, Seq(null, inner.head)))
    through(kind, IndexedSeq(inner.take(1), inner.drop(1))) { vector =>
      assert(ArrowCells.flat(vector, 0).toSeq === Seq(1.0, 2.0))
      assert(ArrowCells.flat(vector, 1).toSeq === Seq(3.0, 4.0, 5.0, 6.0))
    }
  }

  test("MLlib vectors go as the struct that Spark stores: a sparse one is not written out") {
    val dense = Vectors.dense(1, 2)
    val sparse = Vectors.sparse(1 << 30, Array(5), Array(0.5))
    through(SQLDataTypes.VectorType, IndexedSeq(dense, null, sparse)) { vector =>
      assert(vector.isNull(1))
      val parts = vector.getChildrenFromFields.asScala.map(part => part.getName -> part).toMap
      def part(name: String) = Seq(0, 2).map(ArrowCells.value(parts(name), _))
      assert(Seq(0, 2).map(parts("type").asInstanceOf[TinyIntVector].get(_).toInt) === Seq(1, 0))
      assert(part("size") === Seq[Any](null, 1 << 30))
      assert(part("indices") === Seq(null, Seq(5)))
      assert(part("values") === Seq(Seq(1.0, 2.0), Seq(0.5)))
    }
    assert(ArrowCells.bytesOf(sparse) === 12L)
  }

  test("the bytes of a batch count arrays, vectors, files and pictures") {
    assert(ArrowCells.bytesOf(mutable.ArraySeq.make(new Array[Float](1000))) === 4000L)
    assert(ArrowCells.bytesOf(mutable.ArraySeq.make(new Array[Double](1000))) === 8000L)
    assert(ArrowCells.bytesOf(Seq.fill(10)(mutable.ArraySeq.make(new Array[Float](1000)))) === 40000L)
    assert(ArrowCells.bytesOf(mutable.ArraySeq.make(Array.fill[AnyRef](1000)(Float.box(1f)))) === 8000L)
    assert(ArrowCells.bytesOf(Vectors.dense(new Array[Double](1000))) === 8000L)
    assert(ArrowCells.bytesOf(new Array[Byte](1000)) === 1000L)
    assert(ArrowCells.bytesOf(Row("name", 1, 1, 1, 0, new Array[Byte](1000))) >= 1000L)
    assert(ArrowCells.bytesOf(null) === 0L)
  }
}
