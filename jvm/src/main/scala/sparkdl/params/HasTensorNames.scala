package sparkdl.params

import org.apache.spark.ml.param.{Params, StringArrayParam}

/** Which column is which input or output of the model. */
trait HasTensorNames extends Params {

  /**
   * Names of the model's inputs that the input columns feed, in the order of the columns. The model's own order when unset.
   * @group param
   */
  final val inputNames: StringArrayParam = new StringArrayParam(
    this,
    "inputNames",
    "names of the model's inputs that inputCols feed, in this order; the model's own order when unset"
  )

  /**
   * Names of the model's outputs that the output columns take, in the order of the columns. All outputs, in the model's
   * order, when unset.
   * @group param
   */
  final val outputNames: StringArrayParam = new StringArrayParam(
    this,
    "outputNames",
    "names of the model's outputs that outputCols take, in this order; all of them, in the model's order, when unset"
  )

  /** @group getParam */
  final def getInputNames: Array[String] = $(inputNames)

  /** @group getParam */
  final def getOutputNames: Array[String] = $(outputNames)
}
