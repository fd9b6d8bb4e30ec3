package sparkdl.params

import org.apache.spark.ml.param.{IntParam, Params}

/** The rows of one native call. */
trait HasBatchSize extends Params {

  /**
   * Rows handed to the native code at a time, from 1 on.
   * @group param
   */
  final val batchSize: IntParam = new IntParam(
    this,
    "batchSize",
    "rows handed to the native code at a time (at least 1)",
    Choice.atLeast("batchSize", 1)
  )

  setDefault(batchSize, 32)

  /** @group getParam */
  final def getBatchSize: Int = $(batchSize)
}
