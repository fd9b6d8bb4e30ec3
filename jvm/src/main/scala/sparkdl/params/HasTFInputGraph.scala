package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The TensorFlow graph. */
trait HasTFInputGraph extends Params {

  /**
   * The bundle of a graph that was read: its path or URI, on any Hadoop file system.
   * @group param
   */
  final val tfInputGraph: Param[String] = new Param[String](
    this,
    "tfInputGraph",
    "TensorFlow graph that was read (TFInputGraph), or path or URI of its bundle (*.sparkdl)",
    Choice.notEmpty("tfInputGraph")
  )

  /** @group getParam */
  final def getTfInputGraph: String = $(tfInputGraph)
}
