package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The TensorFlow graph for pictures, and its tensors. */
trait HasGraph extends Params {

  /**
   * The bundle of a graph that was read: its path or URI, on any Hadoop file system.
   * @group param
   */
  final val graph: Param[String] = new Param[String](
    this,
    "graph",
    "TensorFlow graph that takes pictures: TFInputGraph, or path or URI of its bundle (*.sparkdl)",
    Choice.notEmpty("graph")
  )

  /**
   * The tensor that pictures feed: `[rows, height, width, channels]`, float32 or uint8, samples from 0 to 255.
   * @group param
   */
  final val inputTensor: Param[String] = new Param[String](
    this,
    "inputTensor",
    "tensor that pictures feed, by its name or its key in the signature; the only input when unset",
    Choice.notEmpty("inputTensor")
  )

  /**
   * The tensor that `outputCol` is; for several there is `outputMapping`.
   * @group param
   */
  final val outputTensor: Param[String] = new Param[String](
    this,
    "outputTensor",
    "tensor that outputCol is, by its name or its key in the signature; the only output when unset",
    Choice.notEmpty("outputTensor")
  )

  /** @group getParam */
  final def getGraph: String = $(graph)

  /** @group getParam */
  final def getInputTensor: String = $(inputTensor)

  /** @group getParam */
  final def getOutputTensor: String = $(outputTensor)
}
