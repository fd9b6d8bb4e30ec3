package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** What becomes of a picture before the model sees it. */
trait HasPreprocessing extends Params {

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

  setDefault(preprocessing, "none")

  /** @group getParam */
  final def getPreprocessing: String = $(preprocessing)
}
