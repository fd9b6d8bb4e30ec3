package sparkdl.engine

import java.util.concurrent.ScheduledFuture

import scala.collection.mutable.ArrayBuffer

import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.spark.{TaskContext, TaskKilledException}
import org.apache.spark.sql.Row

import sparkdl.ffi.{ErrorKind, SparkDLException}

/**
 * A row and what the model made of it.
 *
 * `output` is null where the row is invalid, else an `Array[Float]` or, for `topK`, a `Seq[Row(class, description,
 * probability)]`; `error` is the reason, null where the row is valid.
 */
final case class RowResult(row: Row, output: Any, error: String)

/**
 * The rows of a partition with the model's output, in order; one native call per batch.
 *
 * The column holds encoded pictures or Spark's image struct. The model is opened at the first row, so an empty partition
 * opens none, and is closed by this iterator: at the end of the rows, on failure, and when the task ends early or is
 * killed. A batch ends at `batchSize` rows or 64 MiB of pictures.
 */
final class BatchIterator(
    rows: Iterator[Row],
    column: Int,
    model: => NativeModel,
    batchSize: Int,
    metrics: Option[EngineMetrics] = None
) extends Iterator[RowResult] {
  import BatchIterator._

  private val context = Option(TaskContext.get())
  private var resources: Option[Resources] = None
  private var results: Iterator[RowResult] = Iterator.empty

  // Before anything native exists: the task may end in the middle of opening it.
  context.foreach(_.addTaskCompletionListener[Unit]((_: TaskContext) => close()))

  override def hasNext: Boolean = {
    while (!results.hasNext && rows.hasNext) results = run(nextRows())
    val more = results.hasNext
    if (!more) close()
    more
  }

  override def next(): RowResult = if (hasNext) results.next() else Iterator.empty.next()

  private def nextRows(): ArrayBuffer[Row] = {
    val batch = new ArrayBuffer[Row](batchSize)
    var bytes = 0L
    while (rows.hasNext && batch.size < batchSize && bytes < MaxBytes) {
      val row = rows.next()
      batch += row
      bytes += bytesOf(row.get(column))
    }
    batch
  }

  private def run(batch: ArrayBuffer[Row]): Iterator[RowResult] =
    try {
      stopIfKilled()
      val Resources(bridge, model, _) = acquire()
      bridge.send(batch.map(_.get(column)).toSeq) { (bytes, length) =>
        model.run(bytes, length)(bridge.receive(_)(take(batch, _)))
      }
    } catch {
      case failure: Throwable =>
        close()
        failure match {
          case e: SparkDLException if e.kind == ErrorKind.Cancelled => stopIfKilled(); throw e
          case e => throw e
        }
    }

  private def acquire(): Resources = resources.getOrElse {
    val bridge = new ArrowBridge(s"sparkdl task ${context.map(_.taskAttemptId()).getOrElse(-1L)}")
    try {
      val opened = model
      resources = Some(Resources(bridge, opened, context.map(KillWatch.start(_, opened))))
    } finally if (resources.isEmpty) bridge.close()
    resources.get
  }

  private def take(batch: ArrayBuffer[Row], root: VectorSchemaRoot): Iterator[RowResult] = {
    val output = root.getVector("output")
    val error = root.getVector("error")
    val taken = batch.indices.map { i =>
      RowResult(batch(i), ArrowBridge.value(output, i), ArrowBridge.value(error, i).asInstanceOf[String])
    }
    taken.iterator
  }

  private def stopIfKilled(): Unit =
    if (context.exists(_.isInterrupted()))
      throw new TaskKilledException("the task was killed between two batches")

  private def close(): Unit = {
    val open = resources
    resources = None
    open.foreach { case Resources(bridge, model, watch) =>
      watch.foreach(_.cancel(false))
      try metrics.foreach(_.add(model.metrics))
      finally
        try model.close()
        finally bridge.close()
    }
  }
}

object BatchIterator {
  private val MaxBytes = 64L << 20

  private final case class Resources(
      bridge: ArrowBridge,
      model: NativeModel,
      watch: Option[ScheduledFuture[_]]
  )

  private def bytesOf(value: Any): Long = value match {
    case bytes: Array[Byte] => bytes.length.toLong
    case image: Row => bytesOf(image.get(image.length - 1))
    case _ => 0L
  }
}
