package sparkdl.sql

import java.util.{Collections, WeakHashMap}
import java.util.concurrent.ConcurrentHashMap

import scala.util.Try

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.sparkdl.SessionFunctions.Named
import org.apache.spark.sql.types._

import sparkdl.StageColumns
import sparkdl.engine.PictureFunction
import sparkdl.ffi.ErrorKind
import sparkdl.params.{HasPictureOptions, HasScaleHint}

/** The functions that are there in every session, and how their arguments are read. */
private[sql] object NamedFunctions {

  val all: Seq[Named] = Seq(
    Named(
      "dl_predict",
      "dl_predict(model, image[, topK[, options]]) - Classifies pictures (encoded, or image structs) by a network: the " +
        "scores of all classes, or with `topK` the best classes by name. `options` is a map of params of " +
        "DeepImagePredictor. NULL where a picture cannot be used.",
      "dl_predict('MobileNetV2', content, 3) FROM pictures",
      model = true,
      columns = Some(1),
      {
        case Seq(model: String) => ofModel(model, Map("task" -> "predict"))
        case Seq(model: String, topK: Int) =>
          ofModel(model, Map("task" -> "predict", "topK" -> topK.toString))
        case Seq(model: String, topK: Int, options: Map[_, _]) =>
          ofModel(model, texts(options) ++ Map("task" -> "predict", "topK" -> topK.toString))
        case Seq(model: String, options: Map[_, _]) => ofModel(model, texts(options) + ("task" -> "predict"))
        case _ =>
          refuse("it takes (model, image[, topK[, options]]): topK a number, options a map of strings")
      }
    ),
    Named(
      "dl_featurize",
      "dl_featurize(model, image[, options]) - Turns pictures (encoded, or image structs) into features by a network. " +
        "`options` is a map of params of DeepImageFeaturizer. NULL where a picture cannot be used.",
      "dl_featurize('MobileNetV2', content, map('pooling', 'max')) FROM pictures",
      model = true,
      columns = Some(1),
      {
        case Seq(model: String) => ofModel(model, Map("task" -> "featurize"))
        case Seq(model: String, options: Map[_, _]) =>
          ofModel(model, texts(options) + ("task" -> "featurize"))
        case _ => refuse("it takes (model, image[, options]): options a map of strings")
      }
    ),
    Named(
      "dl_run",
      "dl_run(model, column, ...[, options]) - Runs columns through a model on tensors, one for each of its inputs in its " +
        "own order, or one struct with fields of their names; several outputs make a struct. `options` is a map of params " +
        "of TFTransformer. NULL where a row cannot be used.",
      "dl_run('/models/scorer.keras', features) FROM points",
      model = true,
      columns = None,
      {
        case Seq(model: String, options: Map[_, _]) => ofModel(model, texts(options) + ("task" -> "run"))
        case Seq(model: String) => ofModel(model, Map("task" -> "run"))
        case _ => refuse("it takes (model, column, ...[, options])")
      }
    ),
    Named(
      "decode_image",
      "decode_image(content) - Decodes pictures (JPEG, PNG, GIF, BMP, WebP, TIFF) to Spark's image struct, of uint8, BGR " +
        "with alpha where there is any, or grey. NULL where a picture cannot be decoded.",
      "decode_image(content).width FROM pictures",
      model = false,
      columns = Some(1),
      {
        case Seq() =>
          PictureCalls(PictureFunction.Decode, image, Seq(BinaryType), PictureFunction.decoding(mostPixels))
        case _ => refuse("it takes (content)")
      }
    ),
    Named(
      "resize_image",
      "resize_image(image, height, width[, scaleHint]) - Resizes pictures (encoded, or image structs) to this many pixels, " +
        "by the filter `scaleHint` (SCALE_AREA_AVERAGING when left out): Spark's image struct. NULL where a picture cannot " +
        "be used.",
      "resize_image(image, 224, 224) FROM pictures",
      model = false,
      columns = Some(1),
      {
        case Seq(height: Int, width: Int) => resized(height, width, "SCALE_AREA_AVERAGING")
        case Seq(height: Int, width: Int, scaleHint: String) => resized(height, width, scaleHint)
        case _ => refuse("it takes (image, height, width[, scaleHint]): numbers, and a filter's name")
      }
    ),
    Named(
      "encode_image",
      "encode_image(image, format[, quality]) - Encodes pictures (image structs of uint8, or encoded) as jpeg, png, bmp, webp " +
        "(lossless) or tiff. `quality` (1 to 100, 95 when left out) is JPEG's, which drops alpha. NULL where a picture cannot " +
        "be encoded.",
      "encode_image(resize_image(content, 64, 64), 'jpeg') FROM pictures",
      model = false,
      columns = Some(1),
      {
        case Seq(format: String) => encoded(format, 95)
        case Seq(format: String, quality: Int) => encoded(format, quality)
        case _ => refuse("it takes (image, format[, quality]): a format's name, and a number")
      }
    ),
    Named(
      "image_info",
      "image_info(content) - Tells format (jpeg, png, gif, bmp, webp, tiff), height, width and nChannels of encoded pictures " +
        "by their headers, without decoding them. NULL where there is no picture.",
      "image_info(content).format FROM pictures",
      model = false,
      columns = Some(1),
      {
        case Seq() => PictureCalls(PictureFunction.Info, info, Seq(BinaryType), Nil)
        case _ => refuse("it takes (content)")
      }
    )
  )

  private val mostPixels = HasPictureOptions.defaultMaxPixels
  private val mostSide = 16384
  private val formats = Seq("jpeg", "png", "bmp", "webp", "tiff")
  private def image = StructField("image", StageColumns.imageType)
  private def pictures = Seq(BinaryType, StageColumns.imageType)
  private def info = StructField(
    "info",
    new StructType().add("format", StringType).add("height", IntegerType).add("width", IntegerType)
      .add("nChannels", IntegerType))

  private def resized(height: Int, width: Int, scaleHint: String): BatchFunction = {
    Seq("height" -> height, "width" -> width).foreach { case (name, side) =>
      if (side < 1 || side > mostSide) refuse(s"$name must be from 1 to $mostSide but was $side")
    }
    if (!HasScaleHint.hints.contains(scaleHint))
      refuse(s"scaleHint cannot be \"$scaleHint\"; it takes ${HasScaleHint.hints.mkString(", ")}")
    PictureCalls(
      PictureFunction.Decode,
      image,
      pictures,
      PictureFunction.decoding(mostPixels, height, width, scaleHint))
  }

  private def encoded(format: String, quality: Int): BatchFunction = {
    if (!formats.contains(format))
      refuse(s"format cannot be \"$format\"; it takes ${formats.mkString(", ")}")
    if (quality < 1 || quality > 100) refuse(s"quality must be from 1 to 100 but was $quality")
    val options = Seq(
      "format" -> format,
      "quality" -> quality.toString,
      "maxPixels" -> mostPixels.toString,
      "applyExifOrientation" -> "false")
    PictureCalls(PictureFunction.Encode, StructField("file", BinaryType), pictures, options)
  }

  private def texts(options: Map[_, _]): Map[String, String] =
    options.map { case (key, value) => key.toString -> value.toString }

  private type Known = ConcurrentHashMap[(String, String, Map[String, String]), BatchFunction]

  private val known = Collections.synchronizedMap(new WeakHashMap[SparkSession, Known])

  /** The function of a model, the same one for equal calls while its file stays the same. */
  private def ofModel(model: String, options: Map[String, String]): BatchFunction = {
    val spark = SparkSession.active
    known.computeIfAbsent(spark, _ => new Known).computeIfAbsent(
      (model, stamp(spark, model), options),
      _ => ModelFunctions.of(spark, model, options))
  }

  /** What tells one state of a model's file from another. */
  private def stamp(spark: SparkSession, model: String): String = Try {
    val path = new Path(model)
    val status = path.getFileSystem(spark.sparkContext.hadoopConfiguration).getFileStatus(path)
    s"${status.getLen} ${status.getModificationTime}"
  }.getOrElse("")

  private def refuse(message: String): Nothing = throw ErrorKind.InvalidArgument.exception(message)
}
