package sparkdl.params

import org.apache.spark.ml.param.{IntArrayParam, Param, Params}

/** What becomes of a picture before the model sees it. */
trait HasPreprocessing extends Params {

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

  /**
   * Order of the channels that the model takes: "RGB", "BGR" or, for a model of one channel, "L". Where it is not set, a
   * model of one channel gets "L", and preprocessing "caffe" means "BGR", as in Keras.
   * @group param
   */
  final val channelOrder: Param[String] = new Param[String](
    this,
    "channelOrder",
    "order of the channels that the model takes: \"RGB\", \"BGR\", or \"L\" (one, grey)",
    Choice.of("channelOrder", Array("RGB", "BGR", "L"))
  )

  /**
   * What becomes of the pixels' values, 0 to 255: "none", "tf" (-1 to 1), "caffe" (ImageNet's mean of each colour
   * subtracted), or "torch" (0 to 1, then ImageNet's mean and deviation).
   * @group param
   */
  final val preprocessing: Param[String] = new Param[String](
    this,
    "preprocessing",
    "what becomes of pixels (0 to 255) before the model sees them: \"none\", \"tf\" (to -1 ... 1), \"caffe\" " +
      "(ImageNet's mean subtracted), or \"torch\" (to 0 ... 1, then ImageNet's mean and deviation)",
    Choice.of("preprocessing", Array("none", "tf", "caffe", "torch"))
  )

  setDefault(channelOrder -> "RGB", preprocessing -> "none")

  /** @group getParam */
  final def getInputSize: Array[Int] = $(inputSize)

  /** @group getParam */
  final def getChannelOrder: String = $(channelOrder)

  /** @group getParam */
  final def getPreprocessing: String = $(preprocessing)
}
