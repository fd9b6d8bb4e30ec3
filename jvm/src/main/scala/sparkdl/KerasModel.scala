package sparkdl

import org.apache.spark.ml.param.ParamMap
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}

/** A [[KerasTransformer]] with a Keras model that PySpark's `KerasEstimator` trained: predictions beside the scores. */
final class KerasModel(override val uid: String) extends KerasTransformer(uid) with FittedModel {

  def this() = this(Identifiable.randomUID("KerasModel"))

  setDefault(outputMode, "vector")

  override private[sparkdl] def checkParams(): Unit =
    if ($(predictionKind) == "failed") requireParams(inputCol) else super.checkParams()

  override def copy(extra: ParamMap): KerasModel = copied(defaultCopy[KerasModel](extra))

  override def toString: String =
    s"KerasModel: uid=$uid${get(modelFile).fold("")(file => s", modelFile=$file")}, predictionCol=${$(predictionCol)}"
}

object KerasModel extends DefaultParamsReadable[KerasModel] {

  override def read: MLReader[KerasModel] = new StageReader(super.read)

  override def load(path: String): KerasModel = read.load(path)
}
