package sparkdl.engine

import java.io.InputStream
import java.util.zip.{ZipException, ZipInputStream}

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.core.JsonProcessingException
import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}

import sparkdl.ffi.ErrorKind

/**
 * What a schema needs to know of a model.
 *
 * @param sizes numbers per picture, by output: "predictions", "features", "featuresAvg", "featuresMax"
 * @param labelled whether the model names its classes
 */
private[sparkdl] final case class Manifest(name: String, sizes: Map[String, Int], labelled: Boolean)

private[sparkdl] object Manifest {

  /** Reads a bundle up to its manifest, which comes first: of a remote bundle only the head is fetched. Closes the stream. */
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
    val outputs = root.path("outputs").properties().asScala
    val sizes = outputs.map { output =>
      output.getKey -> output.getValue.path("shape").elements().asScala.map(_.asInt).product
    }
    Manifest(root.path("name").asText, sizes.toMap, root.path("labels").isArray)
  }

  private def damaged(bundle: String, found: String, cause: Throwable) =
    ErrorKind.InvalidModel.exception(
      s"$bundle is not a bundle of this project: $found. Make one with python -m sparkdl export.",
      cause
    )
}
