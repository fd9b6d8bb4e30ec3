package sparkdl

import org.apache.spark.ml.param.ParamMap
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}

import sparkdl.params.HasPooling

/**
 * Turns pictures into the features that a pre-trained network sees in them, for another stage to learn from.
 *
 * The output is an MLlib vector (or `array<float>`) per picture: with pooling, one number per channel of the last
 * feature map; without, the whole map, flattened in the order height, width, channel.
 */
final class DeepImageFeaturizer(override val uid: String) extends PictureTransformer with HasPooling {

  def this() = this(Identifiable.randomUID("DeepImageFeaturizer"))

  /** @group setParam */
  def setPooling(value: String): this.type = set(pooling, value)

  override private[sparkdl] def task: Map[String, String] =
    Map("task" -> "features", "pooling" -> $(pooling), "topK" -> "1", "labels" -> "")

  override private[sparkdl] def outputName: String =
    Map("avg" -> "featuresAvg", "max" -> "featuresMax", "none" -> "features")($(pooling))

  override def copy(extra: ParamMap): DeepImageFeaturizer = copied(defaultCopy[DeepImageFeaturizer](extra))

  override def toString: String = {
    val model = get(modelName).map(name => s", modelName=$name").getOrElse("")
    s"DeepImageFeaturizer: uid=$uid$model, pooling=${$(pooling)}"
  }
}

object DeepImageFeaturizer extends DefaultParamsReadable[DeepImageFeaturizer] {

  /** The names that `modelName` takes, besides paths of bundles. */
  def supportedModels: Set[String] = NamedModels.names.toSet

  override def read: MLReader[DeepImageFeaturizer] = new StageReader(super.read)

  override def load(path: String): DeepImageFeaturizer = read.load(path)
}
