package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** Where in the network the features are taken. */
trait HasFeatureLayer extends Params {

  /**
   * Layer whose output are the features, by its name in Keras: a layer of the model itself, not of a model within it. The
   * last feature map when unset.
   * @group param
   */
  final val featureLayer: Param[String] = new Param[String](
    this,
    "featureLayer",
    "layer whose output are the features, by its name in Keras; the last feature map when unset",
    Choice.notEmpty("featureLayer")
  )

  /** @group getParam */
  final def getFeatureLayer: String = $(featureLayer)
}
