package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The type of the numbers that come out. */
trait HasOutputMode extends Params {

  /**
   * Type of the output column: "vector" (MLlib's, of doubles, its size in the column's metadata), "array", or "image", as
   * far as the stage has them.
   * @group param
   */
  final val outputMode: Param[String] = new Param[String](
    this,
    "outputMode",
    outputModeDoc,
    Choice.of("outputMode", outputModes)
  )

  private[sparkdl] def outputModes: Array[String] = Array("vector", "array")

  private[sparkdl] def outputModeDoc: String =
    "type of the output column: \"vector\" (MLlib's, with its size in the column's metadata) or \"array\" (of floats)"

  setDefault(outputMode, "vector")

  /** @group getParam */
  final def getOutputMode: String = $(outputMode)
}

/** The type of the columns that come out of a model on tensors. */
trait HasTensorOutputMode extends HasOutputMode {

  override private[sparkdl] def outputModes: Array[String] = Array("array", "vector")

  override private[sparkdl] def outputModeDoc: String =
    "type of the output columns: \"array\" (nested by the output's shape, of numbers of the output's type) or " +
      "\"vector\" (MLlib's, flattened, with its size in the column's metadata)"

  setDefault(outputMode, "array")
}

/** The type of the columns that come out of a TensorFlow graph on pictures. */
trait HasGraphOutputMode extends HasOutputMode {

  override private[sparkdl] def outputModes: Array[String] = Array("vector", "array", "image")

  override private[sparkdl] def outputModeDoc: String =
    "type of the output columns: \"vector\" (MLlib's, flattened), \"array\" (nested by the tensor's shape, of numbers " +
      "of its type), or \"image\" (Spark's image struct, of uint8 or float32, BGR)"
}

/** The type of the column that comes out of a model on pictures. */
trait HasImageOutputMode extends HasOutputMode {

  override private[sparkdl] def outputModes: Array[String] = Array("vector", "array", "image")

  override private[sparkdl] def outputModeDoc: String =
    "type of the output column: \"vector\" (MLlib's, flattened, with its size in the column's metadata), " +
      "\"array\" (of floats, flattened), or \"image\" (Spark's image struct of float32, BGR)"
}
