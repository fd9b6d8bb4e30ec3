package sparkdl.params

import org.apache.spark.ml.param.Params

/** Which column feeds which tensor. */
trait HasInputMapping extends Params {

  /**
   * Column to the tensor that it feeds, by the tensor's name or its key in the signature.
   * @group param
   */
  final val inputMapping: StringMapParam = new StringMapParam(
    this,
    "inputMapping",
    "column to the tensor it feeds, by its name (x:0, or x) or by its key in the signature",
    StringMapParam.names("inputMapping", "column to tensor")
  )

  /** @group getParam */
  final def getInputMapping: Map[String, String] = $(inputMapping)
}
