package sparkdl.engine

import java.io.{FileNotFoundException, IOException}
import java.net.URLDecoder
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.{Executors, ExecutorService, TimeUnit}

import scala.collection.mutable
import scala.util.Try
import scala.util.control.NonFatal

import org.apache.hadoop.conf.Configuration
import org.apache.hadoop.fs.{FileStatus, FileSystem, Path}
import org.apache.spark.{TaskContext, TaskKilledException}
import org.apache.spark.sql.Row
import org.slf4j.LoggerFactory

/**
 * Rows with the files that a column names, in order, several read at a time and ahead of who takes them.
 *
 * At most `ahead` files and 64 MiB are read and not yet taken, besides the one that is taken next. Threads start with the
 * first row and end with the rows, with a failure, or with the task. A file that cannot be read is a row with the reason.
 */
private[sparkdl] final class FilesAhead(rows: Iterator[Row], column: Int, ahead: Int, conf: Configuration)
    extends Iterator[InputRow] {
  import FilesAhead._

  private val context = Option(TaskContext.get())
  private val waiting = mutable.Queue.empty[Read]
  private var threads: Option[ExecutorService] = None
  // Guarded by this object's monitor, on which readers wait for room and the taker for its file.
  private var held = 0L
  private var stopped = false

  context.foreach(_.addTaskCompletionListener[Unit]((_: TaskContext) => close()))

  override def hasNext: Boolean = {
    if (!stopped) fillUp()
    if (waiting.isEmpty) close()
    waiting.nonEmpty
  }

  override def next(): InputRow = {
    if (!hasNext) Iterator.empty.next()
    val read = waiting.head
    try finish(read)
    catch { case failure: Throwable => close(); throw failure }
    waiting.dequeue()
    synchronized {
      held -= read.bytes
      notifyAll()
    }
    InputRow(read.row, Seq(read.content.orNull), read.error.orNull)
  }

  private def fillUp(): Unit =
    try while (waiting.size < ahead && rows.hasNext) {
        val read = new Read(rows.next())
        waiting.enqueue(read)
        pool().execute(() => work(read))
      }
    catch { case failure: Throwable => close(); throw failure }

  private def pool(): ExecutorService = threads.getOrElse {
    val name = s"sparkdl-files-${context.map(_.taskAttemptId()).getOrElse(-1L)}"
    threads = Some(Executors.newFixedThreadPool(
      Threads,
      (work: Runnable) => {
        val thread = new Thread(work, name)
        thread.setDaemon(true)
        thread
      }
    ))
    threads.get
  }

  /** Waits for a file, which is read in any case now: it is the next. */
  private def finish(read: Read): Unit = synchronized {
    read.isNext = true
    notifyAll()
    while (!read.done) {
      wait(PollMillis)
      if (context.exists(_.isInterrupted()))
        throw new TaskKilledException("the task was killed between two files")
    }
    read.failure.foreach(throw _)
  }

  private def work(read: Read): Unit = {
    val found =
      try if (synchronized(stopped)) Left("the task has ended") else contentOf(read)
      catch {
        case NonFatal(error) =>
          Left(s"it cannot be read: ${Option(error.getMessage).getOrElse(error.getClass.getName)}")
        case failure: Throwable =>
          synchronized(read.failure = Some(failure))
          Left("")
      }
    synchronized {
      read.content = found.toOption
      read.error = found.left.toOption
      read.done = true
      notifyAll()
    }
  }

  private def contentOf(read: Read): Either[String, Array[Byte]] = read.uri(column) match {
    case None => Left("null")
    case Some(uri) =>
      found(uri).fold[Either[String, Array[Byte]]](Left("there is no such file")) { case (files, status) =>
        if (status.isDirectory) Left("it is a folder")
        else if (status.getLen > MaxFileBytes) Left(s"it is larger than $MaxFileBytes bytes")
        // Opening a pipe would wait for who writes into it.
        else if (status.getLen == 0) Right(Array.emptyByteArray)
        else if (!makeRoom(read, status.getLen)) Left("the task has ended")
        else Right(bytesOf(files, status))
      }
  }

  private def found(uri: String): Option[(FileSystem, FileStatus)] =
    spellings(uri).iterator.map { spelling =>
      val path = new Path(spelling)
      val files = path.getFileSystem(conf)
      try Some((files, files.getFileStatus(path)))
      catch { case _: FileNotFoundException => None }
    }.collectFirst { case Some(found) => found }

  /** Waits until a file of this size may be held; false where nobody waits for it any more. */
  private def makeRoom(read: Read, bytes: Long): Boolean = synchronized {
    while (!stopped && !read.isNext && held + bytes > MaxHeldBytes) wait()
    if (!stopped) {
      held += bytes
      read.bytes = bytes
    }
    !stopped
  }

  private def bytesOf(files: FileSystem, status: FileStatus): Array[Byte] = {
    val stream = files.open(status.getPath)
    try {
      val bytes = new Array[Byte](status.getLen.toInt)
      var count = 0
      var more = true
      while (more && count < bytes.length) {
        if (synchronized(stopped)) throw new IOException("the task has ended")
        val got = stream.read(bytes, count, math.min(ChunkBytes, bytes.length - count))
        more = got >= 0
        if (more) count += got
      }
      if (count == bytes.length) bytes else bytes.take(count)
    } finally stream.close()
  }

  /** Ends the threads; a read that hangs in a file system is interrupted, and left behind where that does not help. */
  private def close(): Unit = {
    synchronized {
      stopped = true
      notifyAll()
    }
    threads.foreach { pool =>
      pool.shutdown()
      val ended = pool.awaitTermination(PatienceMillis, TimeUnit.MILLISECONDS) || {
        pool.shutdownNow()
        pool.awaitTermination(PatienceMillis, TimeUnit.MILLISECONDS)
      }
      if (!ended) log.warn("A file is still being read {} ms after its task ended.", 2 * PatienceMillis)
    }
    threads = None
    waiting.clear()
  }
}

private[sparkdl] object FilesAhead {
  private val log = LoggerFactory.getLogger(classOf[FilesAhead])

  private val Threads = 4
  private val MaxHeldBytes = 64L << 20
  private val ChunkBytes = 1 << 20
  private val PollMillis = 100L
  private val PatienceMillis = 1000L

  /** Larger files are no pictures. */
  private[engine] val MaxFileBytes = 256L << 20

  /** A row and, once it is `done`, what its file holds or why that cannot be told. */
  private final class Read(val row: Row) {
    var isNext = false
    var bytes = 0L
    var content: Option[Array[Byte]] = None
    var error: Option[String] = None
    // What is no file's fault, such as memory that ran out: it ends the task.
    var failure: Option[Throwable] = None
    var done = false

    def uri(column: Int): Option[String] = Option(row.getString(column))
  }

  /** As written; and decoded, since Spark's `input_file_name` gives names percent-encoded. */
  private def spellings(uri: String): Seq[String] = {
    val decoded = Try(URLDecoder.decode(uri.replace("+", "%2B"), UTF_8)).toOption
    (uri +: decoded.toSeq).distinct
  }
}
