package sparkdl

import org.apache.spark.ml.param.ParamMap
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}

/** A [[KerasImageFileTransformer]] with a Keras model that PySpark's `KerasImageFileEstimator` trained: predictions beside the scores. */
final class KerasImageFileModel(override val uid: String) extends KerasImageFileTransformer(uid)
    with FittedModel {

  def this() = this(Identifiable.randomUID("KerasImageFileModel"))

  override private[sparkdl] def checkParams(): Unit =
    if ($(predictionKind) == "failed") requireParams(inputCol) else super.checkParams()

  override def copy(extra: ParamMap): KerasImageFileModel = copied(defaultCopy[KerasImageFileModel](extra))

  override def toString: String =
    s"KerasImageFileModel: uid=$uid${get(modelFile).fold("")(file => s", modelFile=$file")}, predictionCol=${$(predictionCol)}"
}

object KerasImageFileModel extends DefaultParamsReadable[KerasImageFileModel] {

  override def read: MLReader[KerasImageFileModel] = new StageReader(super.read)

  override def load(path: String): KerasImageFileModel = read.load(path)
}
