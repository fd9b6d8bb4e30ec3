package sparkdl.engine

import java.io.RandomAccessFile
import java.nio.file.Path
import java.util.concurrent.CountDownLatch

import scala.concurrent.duration.DurationInt
import scala.jdk.CollectionConverters._

import org.apache.hadoop.conf.Configuration
import org.apache.spark.sql.Row

import sparkdl.{SparkFixture, WatchedFileSystem}

/** What is read ahead, without a model behind it. */
class FilesAheadSuite extends SparkFixture {

  private val conf = {
    val conf = new Configuration
    conf.set("fs.watched.impl", classOf[WatchedFileSystem].getName)
    conf
  }

  /** A file that takes no room on the disk. */
  private def file(folder: Path, name: String, bytes: Long): String = {
    val path = folder.resolve(name)
    val made = new RandomAccessFile(path.toFile, "rw")
    try made.setLength(bytes)
    finally made.close()
    s"watched:$path"
  }

  private def reading(uris: Seq[String], ahead: Int): FilesAhead = {
    WatchedFileSystem.opened.set(0)
    WatchedFileSystem.gate = new CountDownLatch(0)
    new FilesAhead(uris.iterator.map(Row(_)), 0, ahead, conf)
  }

  private def readers: Int =
    Thread.getAllStackTraces.keySet.asScala.count(thread =>
      thread.isAlive && thread.getName.startsWith("sparkdl-files"))

  private def settled(files: Int): Unit = {
    val deadline = 60.seconds.fromNow
    while (WatchedFileSystem.opened.get < files && deadline.hasTimeLeft()) Thread.sleep(10)
    Thread.sleep(300)
    assert(WatchedFileSystem.opened.get === files)
  }

  test("no more than 64 MiB are held, and a larger file is read when it is its turn") {
    val folder = newFolder()
    val uris =
      (0 until 4).map(n => file(folder, s"$n.png", 30L << 20)) :+ file(folder, "large.png", 100L << 20)
    val files = reading(uris, ahead = 5)
    assert(files.hasNext)
    settled(2)
    assert(files.next().values.head.asInstanceOf[Array[Byte]].length === (30 << 20))
    settled(3)
    val rest = files.map(row => row.values.head.asInstanceOf[Array[Byte]].length >> 20).toSeq
    assert(rest === Seq(30, 30, 30, 100))
    assert(readers === 0)
  }

  test("no more files are read ahead than were asked for") {
    val folder = newFolder()
    val files = reading((0 until 50).map(n => file(folder, s"$n.png", 10)), ahead = 6)
    assert(files.hasNext)
    settled(6)
    files.next()
    assert(files.hasNext)
    settled(7)
    assert(files.size === 49)
    assert(readers === 0)
  }

  test("no row starts no thread, and a pipe is not waited for") {
    assert(!reading(Nil, ahead = 4).hasNext)
    assert(readers === 0)
    val pipe = newFolder().resolve("pipe.png")
    assert(new ProcessBuilder("mkfifo", pipe.toString).start().waitFor() === 0)
    val rows = reading(Seq(pipe.toString), ahead = 4).toSeq
    assert(rows.map(_.values.head.asInstanceOf[Array[Byte]].length) === Seq(0))
    assert(readers === 0)
  }
}
