package sparkdl.engine

import java.util.concurrent.{Executors, ScheduledExecutorService, ScheduledFuture, TimeUnit}

import org.apache.spark.TaskContext

/**
 * Cancels the native run of a task that was killed: Spark only marks a task as killed, and a thread in native code cannot
 * look. One daemon thread per process asks every tenth of a second.
 */
private[engine] object KillWatch {
  private lazy val timer: ScheduledExecutorService =
    Executors.newSingleThreadScheduledExecutor { (work: Runnable) =>
      val thread = new Thread(work, "sparkdl-kill-watch")
      thread.setDaemon(true)
      thread
    }

  /** Watches until the future is cancelled. */
  def start(context: TaskContext, model: NativeModel): ScheduledFuture[_] =
    timer.scheduleWithFixedDelay(
      () => if (context.isInterrupted()) model.cancel(),
      100,
      100,
      TimeUnit.MILLISECONDS
    )
}
