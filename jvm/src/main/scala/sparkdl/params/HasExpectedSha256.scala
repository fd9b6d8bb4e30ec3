package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The digest of the model's file. */
trait HasExpectedSha256 extends Params {

  /**
   * SHA-256 of the file that names the model, 64 hex digits of any case. Another file is refused on the driver, before it
   * is read as a model. Not checked when unset.
   * @group param
   */
  final val expectedSha256: Param[String] = new Param[String](
    this,
    "expectedSha256",
    "SHA-256, in hex, that the model's file must have; not checked when unset",
    Choice.sha256("expectedSha256")
  )

  /** @group getParam */
  final def getExpectedSha256: String = $(expectedSha256)
}
