package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** What becomes of a row without a usable picture. */
trait HasHandleInvalid extends Params {

  /**
   * What becomes of a row without a usable picture (null, Spark's invalid-image row, undecodable): "keep" (null output,
   * the reason in errorCol), "skip" (the row is dropped), or "error" (the job stops, naming the file).
   * @group param
   */
  final val handleInvalid: Param[String] = new Param[String](
    this,
    "handleInvalid",
    handleInvalidDoc,
    Choice.of("handleInvalid", Array("keep", "skip", "error"))
  )

  private[sparkdl] def handleInvalidDoc: String =
    "what becomes of a row without a usable picture: \"keep\" (null output, the reason in errorCol), " +
      "\"skip\" (the row is dropped), or \"error\" (the job stops, naming the file)"

  setDefault(handleInvalid, "keep")

  /** @group getParam */
  final def getHandleInvalid: String = $(handleInvalid)
}

/** What becomes of a row that the model cannot take. */
trait HasHandleInvalidRow extends HasHandleInvalid {

  override private[sparkdl] def handleInvalidDoc: String =
    "what becomes of a row that the model cannot take: \"keep\" (null outputs, the reason in errorCol), " +
      "\"skip\" (the row is dropped), or \"error\" (the job stops, naming the row)"
}
