package sparkdl

import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}

import sparkdl.engine.PictureManifest
import sparkdl.ffi.ErrorKind
import sparkdl.params.{HasFeatureLayer, HasPooling}

/**
 * Turns pictures into the features that a pre-trained network sees in them, for another stage to learn from.
 *
 * The output is an MLlib vector (or `array<float>`) per picture: with pooling, one number per channel of the last
 * feature map; without, the whole map, flattened in the order height, width, channel. With `featureLayer`, the output of
 * that layer takes the place of the last feature map.
 */
final class DeepImageFeaturizer(override val uid: String) extends PictureTransformer
    with HasPooling
    with HasFeatureLayer {

  def this() = this(Identifiable.randomUID("DeepImageFeaturizer"))

  /** @group setParam */
  def setPooling(value: String): this.type = set(pooling, value)

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setFeatureLayer(value: String): this.type = setNaming(featureLayer, value)

  override private[sparkdl] def namingParams: Seq[Param[_]] = super.namingParams :+ featureLayer

  override private[sparkdl] def ownFeatureLayer: Option[String] = get(featureLayer)

  override private[sparkdl] def checkTask(manifest: PictureManifest): Unit = {
    super.checkTask(manifest)
    get(featureLayer).filterNot(manifest.featureLayer.contains).foreach { layer =>
      throw ErrorKind.InvalidArgument.exception(
        s"The bundle ${$(modelName)} has the features of its layer ${manifest.featureLayer.getOrElse("unknown")}, but " +
          s"featureLayer is $layer: leave featureLayer unset, or make the bundle of that layer (python -m sparkdl export " +
          s"--feature-layer $layer)."
      )
    }
  }

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
