package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** What becomes of a picture whose sides are not in the ratio of the model's input. */
trait HasResizeMode extends Params {

  /**
   * How a picture fills the model's input: "stretch", "crop" (resize the short side, cut the centre), or "pad" (resize
   * the long side, black bars).
   * @group param
   */
  final val resizeMode: Param[String] = new Param[String](
    this,
    "resizeMode",
    "how a picture fills the model's input: \"stretch\", \"crop\" (resize the short side, cut the centre), " +
      "or \"pad\" (resize the long side, black bars)",
    Choice.of("resizeMode", Array("stretch", "crop", "pad"))
  )

  setDefault(resizeMode, "stretch")

  /** @group getParam */
  final def getResizeMode: String = $(resizeMode)
}
