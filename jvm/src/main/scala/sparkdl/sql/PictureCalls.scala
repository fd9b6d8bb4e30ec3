package sparkdl.sql

import scala.util.Try

import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.types._

import sparkdl.{PictureRows, StageColumns}
import sparkdl.engine.{EngineConf, PictureFunction, RowExtension}
import sparkdl.ffi.ErrorKind

/** A function of the core on pictures, in SQL. Equal ones are one in a query. */
private[sql] final case class PictureCalls(
    function: PictureFunction,
    output: StructField,
    takes: Seq[DataType],
    options: Seq[(String, String)],
    conf: EngineConf = EngineConf.of(SparkSession.active)
) extends BatchFunction {

  override def inputs: Seq[String] = Seq("image")

  override def outputs: Seq[StructField] = Seq(output)

  override def rows(kinds: Seq[DataType]): Try[RowExtension] = Try {
    val kind = kinds.head
    val fits = takes.contains(kind) || takes.contains(StageColumns.imageType) && StageColumns.isImage(kind)
    if (!fits) {
      val wanted = if (takes.size == 1) "binary" else "binary or image"
      throw ErrorKind.InvalidArgument.exception(
        s"its picture must be of type $wanted but is actually ${StageColumns.shown(kind)}")
    }
    new PictureRows(function, kind, 0, options, reasons = false, conf)
  }
}
