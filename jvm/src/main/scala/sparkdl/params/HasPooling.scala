package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** What becomes of the last feature map. */
trait HasPooling extends Params {

  /**
   * Pooling of the last feature map over its height and width: "avg", "max", or "none" for the whole map, flattened
   * in the order height, width, channel.
   * @group param
   */
  final val pooling: Param[String] = new Param[String](
    this,
    "pooling",
    "pooling of the last feature map over its height and width: \"avg\", \"max\", or \"none\" for the whole map, flattened",
    Choice.of("pooling", Array("avg", "max", "none"))
  )

  setDefault(pooling, "avg")

  /** @group getParam */
  final def getPooling: String = $(pooling)
}
