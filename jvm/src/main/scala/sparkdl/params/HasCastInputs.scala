package sparkdl.params

import org.apache.spark.ml.param.{BooleanParam, Params}

/** Whether columns of other types are converted. */
trait HasCastInputs extends Params {

  /**
   * Whether columns whose type is not the tensor's are converted. A value that the tensor's type does not hold makes its
   * row invalid.
   * @group param
   */
  final val castInputs: BooleanParam = new BooleanParam(
    this,
    "castInputs",
    "whether columns whose type is not the tensor's are converted; a value that the tensor's type does not hold makes " +
      "its row invalid"
  )

  setDefault(castInputs, false)

  /** @group getParam */
  final def getCastInputs: Boolean = $(castInputs)
}
