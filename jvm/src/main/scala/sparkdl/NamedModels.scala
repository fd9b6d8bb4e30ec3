package sparkdl

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}

import sparkdl.engine.{Native, PictureManifest, WeightFile}

/**
 * A built-in model.
 *
 * @param height rows of its input, in pixels
 * @param width columns of its input, in pixels
 * @param channelOrder "RGB" or "BGR": the order in which the network takes colours
 * @param normalization "tf", "caffe", "torch" or "none": how bytes become floats
 * @param features shape of the last feature map: height, width, channels
 * @param classes number of scores
 * @param parameters how many numbers the weights of the whole network are, batch norm's statistics included
 * @param license licence of the published weights
 */
final case class NamedModel(
    name: String,
    height: Int,
    width: Int,
    channelOrder: String,
    normalization: String,
    features: Seq[Int],
    classes: Int,
    parameters: Long,
    license: String,
    private[sparkdl] val bundleKey: String,
    private[sparkdl] val weights: WeightFile
) {

  /** The manifest of a bundle of this model with the published weights. */
  private[sparkdl] def manifest: PictureManifest = {
    val pooled = Seq("featuresAvg", "featuresMax").map(_ -> features.last)
    val sizes = Map("predictions" -> classes, "features" -> features.product) ++ pooled
    PictureManifest(name, sizes, labelled = true)
  }
}

/** The built-in models, from the table that all faces share. */
object NamedModels {

  /** Every built-in model, in the order of the table. */
  lazy val all: Seq[NamedModel] = {
    val table = new ObjectMapper().readTree(Native.namedModels)
    table.get("models").elements().asScala.map(row).toVector
  }

  /** The names that `modelName` takes, as Keras spells them. */
  def names: Seq[String] = all.map(_.name)

  /** The model of that name; case matters. */
  def find(name: String): Option[NamedModel] = all.find(_.name == name)

  private def row(node: JsonNode): NamedModel = NamedModel(
    name = node.get("name").asText,
    height = node.get("height").asInt,
    width = node.get("width").asInt,
    channelOrder = node.get("channelOrder").asText,
    normalization = node.get("normalization").asText,
    features = node.get("features").elements().asScala.map(_.asInt).toVector,
    classes = node.get("classes").asInt,
    parameters = node.get("parameters").asLong,
    license = node.get("license").asText,
    bundleKey = node.get("bundleKey").asText,
    weights = weightFile(node.get("weights").get("top"))
  )

  private def weightFile(node: JsonNode): WeightFile = WeightFile(
    node.get("url").asText,
    Option(node.get("hash")).filterNot(_.isNull).map(_.asText),
    Option(node.get("hashAlgorithm")).filterNot(_.isNull).fold("")(_.asText),
    Option(node.get("cachedAs")).map(_.asText)
  )
}
