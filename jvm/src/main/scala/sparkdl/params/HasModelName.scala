package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The network: a built-in model, or a bundle. */
trait HasModelName extends Params {

  /**
   * Name of a built-in model as Keras spells it, or path or URI of a bundle (*.sparkdl).
   * @group param
   */
  final val modelName: Param[String] = new Param[String](
    this,
    "modelName",
    "name of a built-in model as Keras spells it, or path or URI of a bundle (*.sparkdl)",
    Choice.notEmpty("modelName")
  )

  /** @group getParam */
  final def getModelName: String = $(modelName)
}
