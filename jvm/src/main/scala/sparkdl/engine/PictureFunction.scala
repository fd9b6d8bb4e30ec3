package sparkdl.engine

import java.nio.ByteBuffer

import scala.collection.IndexedSeq

import org.apache.spark.TaskContext
import org.apache.spark.sql.types.DataType

import sparkdl.ffi.NativeApi

/** A function of the core on a column of pictures, without a model and without TensorFlow. */
sealed abstract class PictureFunction(column: String) extends Serializable {

  protected def call(options: Array[String], batch: ByteBuffer, length: Int): Long

  /**
   * One native call for all pictures, binary or image structs as `kind` says. Per picture a value as Spark's rows hold it and
   * null, or null and the reason. The options are those of the core's contract, `threads` from the settings where it is
   * missing.
   */
  def apply(
      kind: DataType,
      pictures: IndexedSeq[Any],
      options: Seq[(String, String)],
      conf: EngineConf = EngineConf.ofProcess
  ): IndexedSeq[(Any, String)] = {
    Native.ensureLoaded(conf)
    val threads = if (options.exists(_._1 == "threads")) Nil else Seq("threads" -> conf.threads)
    val task = Option(TaskContext.get()).map(_.taskAttemptId()).getOrElse(-1L)
    val bridge = new ArrowBridge(s"sparkdl $column $task")
    try
      bridge.send(Seq(kind -> pictures)) { (bytes, length) =>
        val result = call(Native.pairs(options ++ threads), bytes, length)
        Native.withResult(result)(bridge.receive(_) { root =>
          val (values, error) = (root.getVector(column), root.getVector("error"))
          IndexedSeq.tabulate(root.getRowCount) { row =>
            (ArrowCells.value(values, row), ArrowCells.value(error, row).asInstanceOf[String])
          }
        })
      }
    finally bridge.close()
  }
}

object PictureFunction {

  /** To Spark's image struct, resized where asked. */
  case object Decode extends PictureFunction("image") {
    override protected def call(options: Array[String], batch: ByteBuffer, length: Int): Long =
      NativeApi.decodeImages(options, batch, length)
  }

  /** To encoded files. */
  case object Encode extends PictureFunction("file") {
    override protected def call(options: Array[String], batch: ByteBuffer, length: Int): Long =
      NativeApi.encodeImages(options, batch, length)
  }

  /** To what the headers tell: a struct of format, height, width, nChannels. */
  case object Info extends PictureFunction("info") {
    override protected def call(options: Array[String], batch: ByteBuffer, length: Int): Long =
      NativeApi.imageInfo(options, batch, length)
  }

  /** Options of `Decode`. Height and width 0 keep a picture's own size. */
  def decoding(
      maxPixels: Long,
      height: Int = 0,
      width: Int = 0,
      scaleHint: String = "SCALE_DEFAULT",
      applyExifOrientation: Boolean = false): Seq[(String, String)] = Seq(
    "height" -> height.toString,
    "width" -> width.toString,
    "scaleHint" -> scaleHint,
    "resizeMode" -> "stretch",
    "maxPixels" -> maxPixels.toString,
    "applyExifOrientation" -> applyExifOrientation.toString,
    "fastDecode" -> "false"
  )
}
