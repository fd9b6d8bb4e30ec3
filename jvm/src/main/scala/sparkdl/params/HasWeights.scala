package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The weights of a built-in model. */
trait HasWeights extends Params {

  /**
   * Weights of a built-in model: "imagenet", or path or URI of a Keras file (.keras, .h5). A bundle has its own:
   * this stays "imagenet" then.
   * @group param
   */
  final val weights: Param[String] = new Param[String](
    this,
    "weights",
    "weights of a built-in model: \"imagenet\" (as Keras publishes them), or path or URI of a Keras file (.keras, .h5)",
    Choice.notEmpty("weights")
  )

  setDefault(weights, "imagenet")

  /** @group getParam */
  final def getWeights: String = $(weights)
}
