package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The filter that resizes pictures. */
trait HasScaleHint extends Params {

  /**
   * Filter that resizes pictures to the size of the model's input.
   * @group param
   */
  final val scaleHint: Param[String] = new Param[String](
    this,
    "scaleHint",
    "filter that resizes pictures: SCALE_AREA_AVERAGING, SCALE_SMOOTH (box); SCALE_DEFAULT, SCALE_FAST, " +
      "SCALE_REPLICATE (nearest); SCALE_BILINEAR, SCALE_BICUBIC (as Pillow); SCALE_TF_BILINEAR (as tf.image.resize)",
    Choice.of("scaleHint", HasScaleHint.hints)
  )

  setDefault(scaleHint, "SCALE_AREA_AVERAGING")

  /** @group getParam */
  final def getScaleHint: String = $(scaleHint)
}

private[sparkdl] object HasScaleHint {

  val hints: Array[String] = Array(
    "SCALE_AREA_AVERAGING",
    "SCALE_SMOOTH",
    "SCALE_DEFAULT",
    "SCALE_FAST",
    "SCALE_REPLICATE",
    "SCALE_BILINEAR",
    "SCALE_BICUBIC",
    "SCALE_TF_BILINEAR"
  )
}
