package sparkdl

import java.net.URI
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger

import org.apache.hadoop.fs.{FSDataInputStream, Path, RawLocalFileSystem}

/** The local disk as `watched:`; it counts the files that are opened, and lets those named `held` wait. */
class WatchedFileSystem extends RawLocalFileSystem {
  import WatchedFileSystem._

  override def getUri: URI = URI.create("watched:///")

  override def getScheme: String = "watched"

  override def open(path: Path, bufferSize: Int): FSDataInputStream = {
    opened.incrementAndGet()
    mostOpening.accumulateAndGet(opening.incrementAndGet(), math.max)
    try {
      if (path.getName.startsWith("held")) gate.await()
      super.open(path, bufferSize)
    } finally opening.decrementAndGet()
  }
}

object WatchedFileSystem {

  val opened = new AtomicInteger
  val opening = new AtomicInteger
  val mostOpening = new AtomicInteger

  @volatile var gate = new CountDownLatch(0)
}
