package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The column of reasons. */
trait HasErrorCol extends Params {

  /**
   * Column for the reason why a row has no output: a string, null where the row is fine. No such column when unset.
   * @group param
   */
  final val errorCol: Param[String] = new Param[String](
    this,
    "errorCol",
    "column for the reason why a row has no output (null where it has one); none when unset",
    Choice.notEmpty("errorCol")
  )

  /** @group getParam */
  final def getErrorCol: String = $(errorCol)
}
