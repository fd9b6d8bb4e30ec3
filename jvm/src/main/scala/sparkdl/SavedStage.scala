package sparkdl

import java.io.{InputStream, RandomAccessFile, SequenceInputStream}
import java.nio.file.Files

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}
import com.fasterxml.jackson.databind.node.ObjectNode
import org.apache.hadoop.fs.Path
import org.apache.spark.ml.param.{Param, ParamPair}
import org.apache.spark.ml.util.{MLReader, MLWriter}
import org.apache.spark.sql.{Encoders, SparkSession}

import sparkdl.engine.{Bundle, Bundles, BundleSource}
import sparkdl.ffi.ErrorKind

/** Saves a stage: its bundle, where it needs one, then its metadata in the layout of Spark's `DefaultParamsWriter`. */
private[sparkdl] final class StageWriter(stage: ModelTransformer) extends MLWriter {

  override protected def saveImpl(path: String): Unit = {
    val bundles = new Bundles(sparkSession)
    val bundle = Option.when(stage.isDefined(stage.getParam(stage.modelParam)))(stage.source).flatMap {
      // The table pins the published weights by itself.
      case _: BundleSource.Published => None
      case source => Some(bundles.resolve(source))
    }
    bundle.foreach(SavedBundle.write(_, bundles, SavedStage.bundle(path), sparkSession))
    val line = Seq(Tuple1(metadata(bundle)))
    sparkSession.createDataFrame(line).toDF("value").coalesce(1).write.text(SavedStage.metadata(path))
  }

  /** Spark's own writer has no public place for a field more. */
  private def metadata(bundle: Option[Bundle]): String = {
    val json = new ObjectMapper()
    val root = json.createObjectNode()
    root.put("class", stage.getClass.getName)
    root.put("timestamp", System.currentTimeMillis())
    root.put("sparkVersion", sparkSession.version)
    root.put("uid", stage.uid)
    val params = stage.params.toSeq.asInstanceOf[Seq[Param[Any]]]
    root.set[JsonNode](
      "paramMap",
      encoded(json, params.filter(stage.isSet).flatMap(p => stage.get(p).map(ParamPair(p, _))))
    )
    root.set[JsonNode](
      "defaultParamMap",
      encoded(json, params.flatMap(p => stage.getDefault(p).map(ParamPair(p, _))))
    )
    bundle.foreach(kept => root.put("bundle", kept.digest))
    json.writeValueAsString(root)
  }

  private def encoded(json: ObjectMapper, pairs: Seq[ParamPair[Any]]): ObjectNode = {
    val node = json.createObjectNode()
    pairs.foreach(pair =>
      node.set[JsonNode](pair.param.name, json.readTree(pair.param.jsonEncode(pair.value))))
    node
  }
}

/** Loads what [[StageWriter]] or the Python stage of the same name saved. */
private[sparkdl] final class StageReader[T <: ModelTransformer](params: MLReader[T]) extends MLReader[T] {

  override def load(path: String): T = {
    val stage = params.session(sparkSession).load(path)
    SavedStage.readMetadata(path, sparkSession).path("bundle").asText("") match {
      case "" => stage
      case digest =>
        SavedBundle.read(digest, SavedStage.bundle(path), sparkSession)
        stage.pin = Some(stage.pinFor(digest))
        stage
    }
  }
}

/** Where the parts of a saved stage lie. */
private[sparkdl] object SavedStage {

  def metadata(path: String): String = new Path(path, "metadata").toString

  def bundle(path: String): String = new Path(path, "bundle").toString

  /** The metadata of a saved stage or pipeline. */
  def readMetadata(path: String, session: SparkSession): JsonNode = {
    val lines = session.read.text(metadata(path)).head(1)
    if (lines.isEmpty)
      throw ErrorKind.InvalidArgument.exception(s"$path holds no saved stage: its metadata is empty.")
    new ObjectMapper().readTree(lines.head.getString(0))
  }
}

/** A piece of a bundle, as a row of Parquet. */
private[sparkdl] final case class BundleChunk(chunk: Int, bytes: Array[Byte])

/** A bundle as rows of Parquet, written and read through Spark: any file system, and no message of any size. */
private[sparkdl] object SavedBundle {

  private val chunkBytes = 8 << 20

  def write(bundle: Bundle, bundles: Bundles, path: String, session: SparkSession): Unit = {
    val shipped = bundles.ship(bundle)
    val chunks = (Files.size(bundle.file) + chunkBytes - 1) / chunkBytes
    session
      .range(0, chunks, 1, 1)
      .map(index => readChunk(shipped.file, index))(Encoders.product[BundleChunk])
      .write
      // A row group is held in memory as a whole, by who writes and by who reads.
      .option("parquet.block.row.count.limit", 8L)
      .option("compression", "uncompressed")
      .parquet(path)
  }

  def read(digest: String, path: String, session: SparkSession): Bundle =
    new Bundles(session).keep(stream(path, session), digest, path)

  private def readChunk(file: String, index: Long): BundleChunk = {
    val bundle = new RandomAccessFile(file, "r")
    try {
      val start = index * chunkBytes
      val bytes = new Array[Byte](math.min(chunkBytes.toLong, bundle.length - start).toInt)
      bundle.seek(start)
      bundle.readFully(bytes)
      BundleChunk(index.toInt, bytes)
    } finally bundle.close()
  }

  private def stream(path: String, session: SparkSession): InputStream = {
    val rows = session.read.parquet(path).orderBy("chunk").select("bytes").toLocalIterator().asScala
    val chunks = rows.map(row => new java.io.ByteArrayInputStream(row.getAs[Array[Byte]](0)): InputStream)
    new SequenceInputStream(chunks.asJavaEnumeration)
  }
}
