package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The order in which a model takes the channels of pictures. */
trait HasChannelOrder extends Params {

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

  setDefault(channelOrder, "RGB")

  /** @group getParam */
  final def getChannelOrder: String = $(channelOrder)
}
