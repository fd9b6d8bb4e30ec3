package sparkdl.engine

import java.nio.{ByteBuffer, ByteOrder}
import java.nio.channels.{ReadableByteChannel, WritableByteChannel}
import java.nio.charset.StandardCharsets.UTF_8

import scala.jdk.CollectionConverters._

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator, RootAllocator}
import org.apache.arrow.vector._
import org.apache.arrow.vector.complex.{FixedSizeListVector, ListVector, StructVector}
import org.apache.arrow.vector.ipc.{ArrowStreamReader, ArrowStreamWriter}
import org.apache.arrow.vector.types.pojo.{ArrowType, Field, FieldType, Schema}
import org.apache.spark.sql.Row

/**
 * Rows to Arrow and back, for one task. Everything it allocates is a child of the process's allocator and goes with `close`.
 *
 * A batch is written to one off-heap buffer that is used again for the next; native code reads it in place.
 */
private[engine] final class ArrowBridge(name: String) extends AutoCloseable {
  private val allocator = ArrowBridge.root.newChildAllocator(name, 0, Long.MaxValue)
  private val stream = new OffHeapStream(allocator)

  /** Writes one column of pictures (`null`, bytes, or rows of Spark's image struct) and hands it to `call`. */
  def send[A](values: Seq[Any])(call: (ByteBuffer, Int) => A): A = {
    val field = if (values.exists(_.isInstanceOf[Row])) ArrowBridge.imageField else ArrowBridge.bytesField
    val root = VectorSchemaRoot.create(new Schema(Seq(field).asJava), allocator)
    try {
      ArrowBridge.fill(root.getVector(0), values)
      root.setRowCount(values.size)
      stream.clear()
      val writer = new ArrowStreamWriter(root, null, stream)
      writer.start()
      writer.writeBatch()
      writer.end()
    } finally root.close()
    call(stream.buffer, stream.length)
  }

  /** Reads a result; the vectors that `take` sees are gone when it returns. */
  def receive[A](result: ByteBuffer)(take: VectorSchemaRoot => A): A = {
    val reader = new ArrowStreamReader(new BufferChannel(result), allocator)
    try {
      reader.loadNextBatch()
      take(reader.getVectorSchemaRoot)
    } finally reader.close(false)
  }

  override def close(): Unit =
    try stream.close()
    finally allocator.close()
}

private[engine] object ArrowBridge {
  private lazy val root = new RootAllocator(Long.MaxValue)

  private def field(name: String, kind: ArrowType, children: Field*): Field =
    new Field(name, FieldType.nullable(kind), children.asJava)

  private val int32 = new ArrowType.Int(32, true)
  private val bytesField = field("picture", ArrowType.Binary.INSTANCE)
  private val imageField = field(
    "picture",
    ArrowType.Struct.INSTANCE,
    field("origin", ArrowType.Utf8.INSTANCE),
    field("height", int32),
    field("width", int32),
    field("nChannels", int32),
    field("mode", int32),
    field("data", ArrowType.Binary.INSTANCE)
  )

  /** Off-heap bytes that are not freed yet, of all tasks of this process. */
  def allocated: Long = root.getAllocatedMemory

  private def fill(vector: FieldVector, values: Seq[Any]): Unit = {
    vector.setInitialCapacity(values.size)
    vector.allocateNew()
    values.iterator.zipWithIndex.foreach { case (value, i) => set(vector, i, value) }
    vector.setValueCount(values.size)
  }

  private def set(vector: FieldVector, i: Int, value: Any): Unit = (vector, value) match {
    case (_, null) => vector.setNull(i)
    case (v: VarBinaryVector, bytes: Array[Byte]) => v.setSafe(i, bytes)
    case (v: VarCharVector, text: String) => v.setSafe(i, text.getBytes(UTF_8))
    case (v: IntVector, number: Int) => v.setSafe(i, number)
    case (v: StructVector, image: Row) =>
      v.setIndexDefined(i)
      (0 until v.size).foreach(child =>
        set(v.getChildByOrdinal(child).asInstanceOf[FieldVector], i, image.get(child)))
    case (v, other) => throw new IllegalArgumentException(s"${other.getClass} does not fit ${v.getField}")
  }

  /** The value of a cell as Spark's rows hold it. */
  def value(vector: ValueVector, i: Int): Any =
    if (vector.isNull(i)) null
    else
      vector match {
        case v: FixedSizeListVector => floats(v, i)
        case v: ListVector =>
          (v.getElementStartIndex(i) until v.getElementEndIndex(i)).map(value(v.getDataVector, _))
        case v: StructVector =>
          Row.fromSeq((0 until v.size).map(child => value(v.getChildByOrdinal(child), i)))
        case v: VarCharVector => new String(v.get(i), UTF_8)
        case v: VarBinaryVector => v.get(i)
        case v: Float4Vector => v.get(i)
        case v: IntVector => v.get(i)
        case v =>
          throw new IllegalArgumentException(s"native code sent ${v.getField}, which has no place in a row")
      }

  private def floats(vector: FixedSizeListVector, i: Int): Array[Float] = {
    val size = vector.getListSize
    val values = new Array[Float](size)
    val bytes = vector.getDataVector.getDataBuffer.nioBuffer(i.toLong * size * 4, size * 4)
    bytes.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values)
    values
  }
}

/** An off-heap buffer that grows as an Arrow stream is written to it. */
private final class OffHeapStream(allocator: BufferAllocator) extends WritableByteChannel {
  private var memory: ArrowBuf = allocator.buffer(1L << 16)
  private var written = 0L

  def length: Int = Math.toIntExact(written)
  def buffer: ByteBuffer = memory.nioBuffer(0, length)
  def clear(): Unit = written = 0L

  override def write(bytes: ByteBuffer): Int = {
    val count = bytes.remaining()
    if (written + count > memory.capacity) grow(written + count)
    memory.setBytes(written, bytes)
    written += count
    count
  }

  private def grow(needed: Long): Unit = {
    val larger = allocator.buffer(math.max(needed, 2 * memory.capacity))
    larger.setBytes(0, memory, 0, written)
    memory.close()
    memory = larger
  }

  override def isOpen: Boolean = true
  override def close(): Unit = memory.close()
}

private final class BufferChannel(source: ByteBuffer) extends ReadableByteChannel {
  override def read(target: ByteBuffer): Int =
    if (!source.hasRemaining) -1
    else {
      val count = math.min(source.remaining(), target.remaining())
      val slice = source.duplicate()
      slice.limit(slice.position() + count)
      target.put(slice)
      source.position(source.position() + count)
      count
    }

  override def isOpen: Boolean = true
  override def close(): Unit = ()
}
