package sparkdl.image

import org.apache.spark.sql.{DataFrame, Encoders, Row, SparkSession}
import org.apache.spark.sql.functions.{col, input_file_name, lit, pmod, xxhash64}
import org.apache.spark.sql.types.{BinaryType, StructField, StructType}

import sparkdl.{PictureRows, StageColumns}
import sparkdl.engine.{EngineConf, PictureFunction}
import sparkdl.ffi.ErrorKind
import sparkdl.params.HasPictureOptions

/**
 * How [[ImageIO.readImages]] reads.
 *
 * @param recursive whether folders below the path are read too
 * @param sampleRatio share of the files to read, above 0 and at most 1
 * @param seed which files a sample holds, by a hash of their paths and this; as in Python
 * @param dropInvalid whether files that cannot be decoded are left out, rather than given as Spark's invalid-image row
 * @param numPartitions partitions of the result; 0 leaves that to Spark
 * @param maxPixels most pixels a picture may have; larger ones are invalid
 * @param applyExifOrientation whether the orientation in a picture's EXIF data is applied
 */
final case class ImageReadOptions(
    recursive: Boolean = false,
    sampleRatio: Double = 1.0,
    seed: Long = 0L,
    dropInvalid: Boolean = false,
    numPartitions: Int = 0,
    maxPixels: Long = HasPictureOptions.defaultMaxPixels,
    applyExifOrientation: Boolean = false
) {

  private def requires(met: Boolean, text: String): Unit =
    if (!met) throw ErrorKind.InvalidArgument.exception(text)

  requires(
    sampleRatio > 0 && sampleRatio <= 1,
    s"sampleRatio must be above 0 and at most 1 but was $sampleRatio."
  )
  requires(numPartitions >= 0, s"numPartitions must be at least 0 but was $numPartitions.")
  requires(maxPixels >= 1, s"maxPixels must be at least 1 but was $maxPixels.")
}

/** Reads pictures into DataFrames. */
object ImageIO {

  /** Reads every file under a path or glob of any Hadoop file system, with the default options. */
  def readImages(path: String): DataFrame = readImages(path, ImageReadOptions())

  /**
   * Reads pictures into a column `image`, with the schema of `spark.read.format("image")` and the same values, but more
   * formats, and a truncated file counts as invalid. Columns that Spark finds in the folders' names follow, as they do there.
   * Nothing is decoded until the result is used. Empty files are passed over, as by all file sources.
   */
  def readImages(path: String, options: ImageReadOptions): DataFrame = {
    val found = SparkSession.active.read
      .format("binaryFile")
      .option("recursiveFileLookup", options.recursive.toString)
      .load(path)
    val files = if (options.sampleRatio < 1) sampled(found, options) else found
    val folders = files.schema.fields.drop(4)
    // The image source's origin is this, a URL; binaryFile's own column path is written in another way.
    val contents = Seq(input_file_name(), col("content"))
    val encoded = files.select(contents ++ folders.map(f => col(s"`${f.name}`")): _*)
    val spread = if (options.numPartitions > 0) encoded.repartition(options.numPartitions) else encoded
    val decode = new DecodeFiles(options, EngineConf.of(files.sparkSession))
    spread.mapPartitions(decode)(Encoders.row(StructType(imageField +: folders)))
  }

  /** The files whose hash falls below the ratio: the same ones each time, and in Python; the others are not opened. */
  private def sampled(files: DataFrame, options: ImageReadOptions): DataFrame = {
    val hashes = 1L << 32
    val hash = pmod(xxhash64(col("_metadata.file_path"), lit(options.seed)), lit(hashes))
    files.where(hash < lit((options.sampleRatio * hashes).toLong))
  }

  private val imageField: StructField = StructField("image", StageColumns.imageType)
}

/** Rows of origin, content, and more, to rows of image, and more: one native call per batch of files. */
private final class DecodeFiles(read: ImageReadOptions, conf: EngineConf)
    extends (Iterator[Row] => Iterator[Row])
    with Serializable {

  private val decoded = new PictureRows(
    PictureFunction.Decode,
    BinaryType,
    column = 1,
    PictureFunction.decoding(read.maxPixels, applyExifOrientation = read.applyExifOrientation),
    reasons = false,
    conf
  )

  override def apply(rows: Iterator[Row]): Iterator[Row] = decoded.extend(rows) { (file, values) =>
    val image = Option(values(0).asInstanceOf[Row])
    Option.when(image.nonEmpty || !read.dropInvalid) {
      val origin = file.getString(0)
      val named = image.fold(invalid(origin))(found => Row.fromSeq(origin +: found.toSeq.drop(1)))
      Row.fromSeq(named +: file.toSeq.drop(2))
    }
  }.flatten

  private def invalid(origin: String): Row = Row(origin, -1, -1, -1, -1, Array.emptyByteArray)
}
