package sparkdl.params

import org.apache.spark.ml.param.Params

/** Which tensor becomes which column. */
trait HasOutputMapping extends Params {

  /**
   * Tensor, by its name or its key in the signature, to the new column for it.
   * @group param
   */
  final val outputMapping: StringMapParam = new StringMapParam(
    this,
    "outputMapping",
    "tensor, by its name (y:0, or y) or by its key in the signature, to the new column for it",
    StringMapParam.newColumns("outputMapping", "tensor to column")
  )

  /** @group getParam */
  final def getOutputMapping: Map[String, String] = $(outputMapping)
}
