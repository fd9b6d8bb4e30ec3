package sparkdl.engine

import java.util.concurrent.ScheduledFuture

import scala.collection.IndexedSeq

import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.spark.{TaskContext, TaskKilledException}
import org.apache.spark.sql.types.DataType

import sparkdl.ffi.{ErrorKind, SparkDLException}

/**
 * A model for one task: opened at the first call, and closed by `close`, on failure, and when the task ends early or is
 * killed. A killed task stops between two calls, and within one.
 */
private[sparkdl] final class ModelCaller(model: => NativeModel, metrics: Option[EngineMetrics]) {
  import ModelCaller.Resources

  private val context = Option(TaskContext.get())
  private var resources: Option[Resources] = None

  // Before anything native exists: the task may end in the middle of opening it.
  context.foreach(_.addTaskCompletionListener[Unit]((_: TaskContext) => close()))

  /** Sends columns of values, with their types; the vectors that `take` sees are gone when it returns. */
  def call[A](columns: Seq[(DataType, IndexedSeq[Any])])(take: VectorSchemaRoot => A): A =
    try {
      stopIfKilled()
      val Resources(bridge, model, _) = acquire()
      bridge.send(columns)((bytes, length) => model.run(bytes, length)(bridge.receive(_)(take)))
    } catch {
      case failure: Throwable =>
        close()
        failure match {
          case e: SparkDLException if e.kind == ErrorKind.Cancelled => stopIfKilled(); throw e
          case e => throw e
        }
    }

  def close(): Unit = {
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

  private def acquire(): Resources = resources.getOrElse {
    val bridge = new ArrowBridge(s"sparkdl task ${context.map(_.taskAttemptId()).getOrElse(-1L)}")
    try {
      val opened = model
      resources = Some(Resources(bridge, opened, context.map(KillWatch.start(_, opened))))
    } finally if (resources.isEmpty) bridge.close()
    resources.get
  }

  private def stopIfKilled(): Unit =
    if (context.exists(_.isInterrupted()))
      throw new TaskKilledException("the task was killed between two batches")
}

private object ModelCaller {

  private final case class Resources(
      bridge: ArrowBridge,
      model: NativeModel,
      watch: Option[ScheduledFuture[_]]
  )
}
