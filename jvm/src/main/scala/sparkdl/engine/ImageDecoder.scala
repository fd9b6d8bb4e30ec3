package sparkdl.engine

import org.apache.spark.TaskContext
import org.apache.spark.sql.Row
import org.apache.spark.sql.types.BinaryType

import sparkdl.ffi.NativeApi

/** Decodes pictures to Spark's image struct, without a model and without TensorFlow. */
object ImageDecoder {

  /**
   * One native call for all pictures. Per picture a row of Spark's image struct and null, or null and the reason. The options
   * are those of the core's contract for `decode_images`, `threads` from the settings where it is missing.
   */
  def decode(
      pictures: Array[Array[Byte]],
      options: Seq[(String, String)],
      conf: EngineConf = EngineConf.ofProcess
  ): Array[(Row, String)] = {
    Native.ensureLoaded(conf)
    val threads = if (options.exists(_._1 == "threads")) Nil else Seq("threads" -> conf.threads)
    val bridge =
      new ArrowBridge(s"sparkdl decode ${Option(TaskContext.get()).map(_.taskAttemptId()).getOrElse(-1L)}")
    try
      bridge.send(Seq(BinaryType -> pictures.toIndexedSeq)) { (bytes, length) =>
        val result = NativeApi.decodeImages(Native.pairs(options ++ threads), bytes, length)
        Native.withResult(result)(bridge.receive(_) { root =>
          val image = root.getVector("image")
          val error = root.getVector("error")
          Array.tabulate(root.getRowCount) { i =>
            (ArrowCells.value(image, i).asInstanceOf[Row], ArrowCells.value(error, i).asInstanceOf[String])
          }
        })
      }
    finally bridge.close()
  }
}
