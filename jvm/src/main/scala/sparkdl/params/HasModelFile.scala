package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The network: a Keras model of one's own, or a bundle. */
trait HasModelFile extends Params {

  /**
   * Path or URI, on any Hadoop file system, of a whole Keras model (.keras, .h5) or of a bundle (*.sparkdl).
   * @group param
   */
  final val modelFile: Param[String] = new Param[String](
    this,
    "modelFile",
    "path or URI of a Keras model (.keras, .h5) or of a bundle (*.sparkdl)",
    Choice.notEmpty("modelFile")
  )

  /** @group getParam */
  final def getModelFile: String = $(modelFile)
}
