package sparkdl.engine

import java.nio.ByteBuffer
import java.nio.channels.{ReadableByteChannel, WritableByteChannel}

import scala.collection.IndexedSeq
import scala.jdk.CollectionConverters._

import org.apache.arrow.memory.{ArrowBuf, BufferAllocator, RootAllocator}
import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.arrow.vector.ipc.{ArrowStreamReader, ArrowStreamWriter}
import org.apache.arrow.vector.types.pojo.Schema
import org.apache.spark.sql.types.DataType

/**
 * Rows to Arrow and back, for one task. Everything it allocates is a child of the process's allocator and goes with `close`.
 *
 * A batch is written to one off-heap buffer that is used again for the next; native code reads it in place.
 */
private[engine] final class ArrowBridge(name: String) extends AutoCloseable {
  private val allocator = ArrowBridge.root.newChildAllocator(name, 0, Long.MaxValue)
  private val stream = new OffHeapStream(allocator)

  /** Writes columns of values as Spark's rows hold them, with their types, and hands them to `call`. */
  def send[A](columns: Seq[(DataType, IndexedSeq[Any])])(call: (ByteBuffer, Int) => A): A = {
    val fields = columns.zipWithIndex.map { case ((kind, _), index) =>
      ArrowCells.field(s"input_$index", kind)
    }
    val root = VectorSchemaRoot.create(new Schema(fields.asJava), allocator)
    try {
      columns.zipWithIndex.foreach { case ((_, values), index) =>
        ArrowCells.fill(root.getVector(index), values)
      }
      root.setRowCount(columns.head._2.size)
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

  /** Off-heap bytes that are not freed yet, of all tasks of this process. */
  def allocated: Long = root.getAllocatedMemory
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
