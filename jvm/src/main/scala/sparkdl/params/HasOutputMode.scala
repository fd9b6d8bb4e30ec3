package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The type of the numbers that come out. */
trait HasOutputMode extends Params {

  /**
   * Type of the output column: "vector" (MLlib's, of doubles, its size in the column's metadata) or "array" (of floats).
   * @group param
   */
  final val outputMode: Param[String] = new Param[String](
    this,
    "outputMode",
    "type of the output column: \"vector\" (MLlib's, with its size in the column's metadata) or \"array\" (of floats)",
    Choice.of("outputMode", Array("vector", "array"))
  )

  setDefault(outputMode, "vector")

  /** @group getParam */
  final def getOutputMode: String = $(outputMode)
}
