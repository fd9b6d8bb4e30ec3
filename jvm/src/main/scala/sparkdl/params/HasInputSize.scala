package sparkdl.params

import org.apache.spark.ml.param.{IntArrayParam, Params}

/** The size of a model's pictures. */
trait HasInputSize extends Params {

  /**
   * Height and width, in pixels, to which pictures are resized. The model's own when unset.
   * @group param
   */
  final val inputSize: IntArrayParam = new IntArrayParam(
    this,
    "inputSize",
    "height and width to which pictures are resized, in pixels; the model's own when unset",
    Choice.size("inputSize")
  )

  /** @group getParam */
  final def getInputSize: Array[Int] = $(inputSize)
}
