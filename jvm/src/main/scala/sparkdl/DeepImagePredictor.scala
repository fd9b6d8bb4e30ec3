package sparkdl

import com.fasterxml.jackson.databind.ObjectMapper
import org.apache.spark.ml.param.ParamMap
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}

import sparkdl.engine.PictureManifest
import sparkdl.ffi.ErrorKind
import sparkdl.params.HasDecodePredictions

/**
 * Classifies pictures with a pre-trained network.
 *
 * The output is the scores of all classes as an MLlib vector (or `array<float>`); or, with `decodePredictions`, the
 * best classes by name: `array<struct<class: string, description: string, probability: float>>`, best first, where
 * `class` is ImageNet's synset for the built-in models.
 */
final class DeepImagePredictor(override val uid: String) extends PictureTransformer
    with HasDecodePredictions {

  def this() = this(Identifiable.randomUID("DeepImagePredictor"))

  /** @group setParam */
  def setDecodePredictions(value: Boolean): this.type = set(decodePredictions, value)

  /** @group setParam */
  def setTopK(value: Int): this.type = set(topK, value)

  /** @group setParam */
  def setLabels(value: Array[String]): this.type = set(labels, value)

  override private[sparkdl] def task: Map[String, String] = {
    val names = if ($(labels).isEmpty) "" else new ObjectMapper().writeValueAsString($(labels))
    val name = if ($(decodePredictions)) "topK" else "predictions"
    Map("task" -> name, "pooling" -> "none", "topK" -> $(topK).toString, "labels" -> names)
  }

  override private[sparkdl] def outputKind: OutputKind =
    if ($(decodePredictions)) OutputKind.Classes else super.outputKind

  override private[sparkdl] def outputName: String = "predictions"

  override private[sparkdl] def checkTask(manifest: PictureManifest): Unit = {
    super.checkTask(manifest)
    val classes = manifest.sizes(outputName)
    if ($(decodePredictions) && $(labels).isEmpty && !manifest.labelled)
      throw ErrorKind.InvalidArgument.exception(
        s"The model ${manifest.name} does not name its $classes classes: set labels, or decodePredictions to false."
      )
    if ($(labels).nonEmpty && $(labels).length != classes)
      throw ErrorKind.InvalidArgument.exception(
        s"The param labels has ${$(labels).length} names but the model ${manifest.name} has $classes classes: " +
          "give one name per class."
      )
  }

  override def copy(extra: ParamMap): DeepImagePredictor = copied(defaultCopy[DeepImagePredictor](extra))

  override def toString: String = {
    val model = get(modelName).map(name => s", modelName=$name").getOrElse("")
    s"DeepImagePredictor: uid=$uid$model, decodePredictions=${$(decodePredictions)}"
  }
}

object DeepImagePredictor extends DefaultParamsReadable[DeepImagePredictor] {

  /** The names that `modelName` takes, besides paths of bundles. */
  def supportedModels: Set[String] = NamedModels.names.toSet

  override def read: MLReader[DeepImagePredictor] = new StageReader(super.read)

  override def load(path: String): DeepImagePredictor = read.load(path)
}
