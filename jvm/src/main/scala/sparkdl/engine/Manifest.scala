package sparkdl.engine

import java.io.InputStream
import java.util.zip.{ZipException, ZipInputStream}

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.core.JsonProcessingException
import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}

import sparkdl.ffi.ErrorKind

/** What a schema needs to know of a model. */
private[sparkdl] sealed trait Manifest {

  /** The model's name. */
  def name: String
}

/**
 * A network for pictures, as the stages with `modelName` take it.
 *
 * @param sizes numbers per picture, by output: "predictions", "features", "featuresAvg", "featuresMax"
 * @param labelled whether the model names its classes
 * @param featureLayer the layer whose output are the features, where the bundle says it
 */
private[sparkdl] final case class PictureManifest(
    name: String,
    sizes: Map[String, Int],
    labelled: Boolean,
    featureLayer: Option[String] = None
) extends Manifest

/**
 * A model on tensors, its inputs and outputs in its own order, as the stages with `modelFile` take it.
 *
 * @param unsafeOps whether it was read with operations that reach beyond it
 */
private[sparkdl] final case class TensorManifest(
    name: String,
    inputs: Seq[TensorSpec],
    outputs: Seq[TensorSpec],
    unsafeOps: Boolean = false
) extends Manifest {

  /** Refuses a graph that reaches beyond itself, unless that is allowed. */
  def checkSafe(allowed: Boolean): Unit =
    if (unsafeOps && !allowed)
      throw ErrorKind.InvalidModel.exception(
        s"The graph $name runs operations that reach beyond it (files, processes, Python, network or queues): set " +
          "allowUnsafeOps where you trust it."
      )
}

/**
 * An input or output of a model.
 *
 * @param name what the model calls it: the key of a signature, an input of Keras, or the tensor's own name
 * @param tensor its name in the graph, `node:0`
 * @param dtype as TensorFlow spells it, `float32`
 * @param shape sides without the batch's; `None` is any size
 * @param rows whether there is a batch: an open first dimension. Else `shape` is the whole
 */
final case class TensorSpec(
    name: String,
    tensor: String,
    dtype: String,
    shape: Seq[Option[Int]],
    rows: Boolean = true) {

  /** All of it as what each row holds. */
  private[sparkdl] def whole: TensorSpec = if (rows) copy(shape = None +: shape) else copy(rows = true)

  /** Each of its rows, of which there may be any number, or always the same. */
  private[sparkdl] def anyRows(model: String): TensorSpec = {
    if (whole.shape.isEmpty)
      throw ErrorKind.InvalidArgument.exception(
        s"The output $name of the graph $model is a single value and has no rows: ask for it through reduceBlocks."
      )
    copy(shape = whole.shape.tail, rows = true)
  }

  /** Refuses a tensor whose first dimension is not the rows. */
  private[sparkdl] def checkRows(model: String): Unit =
    if (!rows)
      throw ErrorKind.InvalidArgument.exception(
        s"The tensor $tensor of $model has the shape $shownShape, but the first dimension must be open, for the rows. A " +
          "graph of one row runs through mapRows."
      )

  /** Whether a user may mean it: `:0` may be left out. */
  private[sparkdl] def isCalled(called: String): Boolean =
    Set(name, tensor, tensor.stripSuffix(":0")).contains(called)

  /** How many numbers it is per row, where all sides are known. */
  def size: Option[Int] = Option.when(shape.forall(_.isDefined))(shape.flatten.product)

  /** The shape for people: `[any, 8]`. */
  def shownShape: String = shape.map(_.fold("any")(_.toString)).mkString("[", ", ", "]")
}

private[sparkdl] object Manifest {

  /**
   * Reads a bundle up to its manifest: where that comes first, only the head of a remote bundle is fetched. Closes the
   * stream.
   */
  def read(stream: InputStream, bundle: String): Manifest = {
    val zip = new ZipInputStream(stream)
    try {
      val entry =
        Iterator.continually(zip.getNextEntry).takeWhile(_ != null).find(_.getName == "manifest.json")
      if (entry.isEmpty) throw damaged(bundle, "it holds no manifest.json", null)
      parse(new ObjectMapper().readTree(zip.readNBytes(maxBytes)), bundle)
    } catch {
      case error: ZipException => throw damaged(bundle, "it is not a whole zip file", error)
      case error: JsonProcessingException => throw damaged(bundle, "its manifest.json is not JSON", error)
    } finally zip.close()
  }

  // Labels of 21,000 classes stay below 1 MiB.
  private val maxBytes = 16 << 20

  private def parse(root: JsonNode, bundle: String): Manifest = {
    if (root.path("format").asText != "sparkdl-bundle")
      throw damaged(bundle, "its manifest.json does not say \"format\": \"sparkdl-bundle\"", null)
    val name = root.path("name").asText
    root.path("version").asInt match {
      case 1 => pictures(name, root)
      case 2 =>
        val (inputs, outputs) = (tensors(root.path("inputs")), tensors(root.path("outputs")))
        if (inputs.isEmpty || outputs.isEmpty)
          throw damaged(bundle, "its manifest.json names no tensors", null)
        TensorManifest(name, inputs, outputs, root.path("unsafeOps").asBoolean(false))
      case other =>
        throw damaged(bundle, s"its manifest.json is of version $other, and this package reads 1 and 2", null)
    }
  }

  private def pictures(name: String, root: JsonNode): PictureManifest = {
    val sizes = root.path("outputs").properties().asScala.map { output =>
      output.getKey -> output.getValue.path("shape").elements().asScala.map(_.asInt).product
    }
    val layer = Option(root.path("featureLayer").asText(null))
    PictureManifest(name, sizes.toMap, root.path("labels").isArray, layer)
  }

  private def tensors(nodes: JsonNode): Seq[TensorSpec] = nodes.elements().asScala.map { node =>
    val sides = node.path("shape").elements().asScala.map(side => Option.unless(side.isNull)(side.asInt))
    val texts = Seq("name", "tensor", "dtype").map(node.path(_).asText)
    TensorSpec(texts(0), texts(1), texts(2), sides.toVector, node.path("rows").asBoolean(true))
  }.toVector

  private def damaged(bundle: String, found: String, cause: Throwable) =
    ErrorKind.InvalidModel.exception(
      s"$bundle is not a bundle of this project: $found. Make one with python -m sparkdl export.",
      cause
    )
}
