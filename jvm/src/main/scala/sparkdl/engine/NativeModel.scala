package sparkdl.engine

import java.lang.ref.Cleaner
import java.nio.ByteBuffer
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.locks.ReentrantReadWriteLock

import org.slf4j.LoggerFactory

import sparkdl.ffi.{ErrorKind, NativeApi}

/** What a handle has done since it was opened; times are summed over threads. */
final case class ModelMetrics(
    rows: Long,
    invalidRows: Long,
    nativeCalls: Long,
    sessionRuns: Long,
    decodeNanos: Long,
    runNanos: Long
)

object ModelMetrics {

  /** From the numbers in the order of the fields. */
  private[engine] def of(n: Seq[Long]): ModelMetrics = ModelMetrics(n(0), n(1), n(2), n(3), n(4), n(5))
}

/**
 * A handle on a model, which the process loads once and shares. Close it; the garbage collector only tells of a handle
 * that was forgotten.
 */
final class NativeModel private (handle: Long) extends AutoCloseable {
  private val lock = new ReentrantReadWriteLock
  private val closed = new AtomicBoolean
  NativeModel.warnIfForgotten(this, closed, handle)

  /**
   * Runs the Arrow stream in the first `length` bytes of a direct buffer. `read` sees the result's memory, which is valid
   * in it only.
   */
  def run[A](batch: ByteBuffer, length: Int)(read: ByteBuffer => A): A =
    calling(Native.withResult(NativeApi.runModel(handle, batch, length))(read))

  /** What this handle has done so far. */
  def metrics: ModelMetrics = calling(ModelMetrics.of(NativeApi.metrics(handle).toSeq))

  /**
   * Makes a run in flight, and later ones, fail with kind `Cancelled`. Waits for nothing, so it takes no lock; on a closed
   * handle it does nothing.
   */
  def cancel(): Unit =
    try if (!closed.get) NativeApi.cancelModel(handle)
    catch { case e: sparkdl.ffi.SparkDLException if e.kind == ErrorKind.Closed => }

  /** Waits for calls in flight, then gives the model up. Closing twice is no error. */
  override def close(): Unit = {
    lock.writeLock().lock()
    try if (closed.compareAndSet(false, true)) NativeApi.closeModel(handle)
    finally lock.writeLock().unlock()
  }

  private def calling[A](body: => A): A = {
    lock.readLock().lock()
    try {
      if (closed.get) {
        throw ErrorKind.Closed.exception(s"This model (number $handle) was closed: open it again.")
      }
      body
    } finally lock.readLock().unlock()
  }
}

object NativeModel {
  private val cleaner = Cleaner.create()

  /** Opens a bundle with the settings this process was started with. */
  def open(options: Seq[(String, String)]): NativeModel = open(options, EngineConf.ofProcess)

  /**
   * Loads TensorFlow where it is not loaded, and opens a bundle. All options of the core's contract are needed, except
   * `threads`, which the settings give where it is missing.
   */
  def open(options: Seq[(String, String)], conf: EngineConf): NativeModel = {
    Native.loadTensorFlow(conf)
    val threads = if (options.exists(_._1 == "threads")) Nil else Seq("threads" -> conf.threads)
    new NativeModel(NativeApi.openModel(Native.pairs(options ++ threads)))
  }

  private def warnIfForgotten(model: NativeModel, closed: AtomicBoolean, handle: Long): Unit = {
    cleaner.register(
      model,
      () =>
        if (!closed.get) {
          LoggerFactory
            .getLogger(classOf[NativeModel])
            .warn(
              "The model number {} was never closed: its memory stays taken until this process ends.",
              handle
            )
        }
    )
    ()
  }
}
