package sparkdl.sql

import java.util.{Collections, WeakHashMap}
import java.util.concurrent.ConcurrentHashMap

import scala.util.Try

import org.apache.hadoop.fs.Path
import org.apache.spark.sql.{SparkSession, SparkSessionExtensions, SparkSessionExtensionsProvider}
import org.apache.spark.sql.sparkdl.{ModelFunction, SessionFunctions}
import org.apache.spark.sql.sparkdl.SessionFunctions.Named
import org.slf4j.LoggerFactory

import sparkdl.ffi.ErrorKind

/**
 * Functions that are there in every session, where the jar is: `dl_predict`, `dl_featurize`, `dl_run`. Without a jar on the
 * class path from the start, name this class in `spark.sql.extensions`.
 */
final class ModelExtensions extends SparkSessionExtensionsProvider {

  override def apply(extensions: SparkSessionExtensions): Unit =
    try SessionFunctions.inject(extensions, ModelExtensions.functions)
    catch {
      case missing: LinkageError =>
        LoggerFactory.getLogger(getClass).warn(
          "The functions dl_predict, dl_featurize and dl_run are missing, since this Spark has other insides than 4.1: {}",
          missing.toString)
    }
}

private object ModelExtensions {

  private val functions = Seq(
    Named(
      "dl_predict",
      "dl_predict(model, image[, topK[, options]]) - Classifies pictures (encoded, or image structs) by a network: the " +
        "scores of all classes, or with `topK` the best classes by name. `options` is a map of params of " +
        "DeepImagePredictor. NULL where a picture cannot be used.",
      "dl_predict('MobileNetV2', content, 3) FROM pictures",
      _ => 1,
      {
        case (model, Seq()) => function(model, Map("task" -> "predict"))
        case (model, Seq(topK: Int)) => function(model, Map("task" -> "predict", "topK" -> topK.toString))
        case (model, Seq(topK: Int, options: Map[_, _])) =>
          function(model, texts(options) ++ Map("task" -> "predict", "topK" -> topK.toString))
        case (model, Seq(options: Map[_, _])) => function(model, texts(options) + ("task" -> "predict"))
        case _ =>
          refuse("it takes (model, image[, topK[, options]]): topK a number, options a map of strings")
      }
    ),
    Named(
      "dl_featurize",
      "dl_featurize(model, image[, options]) - Turns pictures (encoded, or image structs) into features by a network. " +
        "`options` is a map of params of DeepImageFeaturizer. NULL where a picture cannot be used.",
      "dl_featurize('MobileNetV2', content, map('pooling', 'max')) FROM pictures",
      _ => 1,
      {
        case (model, Seq()) => function(model, Map("task" -> "featurize"))
        case (model, Seq(options: Map[_, _])) => function(model, texts(options) + ("task" -> "featurize"))
        case _ => refuse("it takes (model, image[, options]): options a map of strings")
      }
    ),
    Named(
      "dl_run",
      "dl_run(model, column, ...) - Runs columns through a model on tensors, one for each of its inputs in its own order, or " +
        "one struct with fields of their names; several outputs make a struct. NULL where a row cannot be used.",
      "dl_run('/models/scorer.keras', features) FROM points",
      count => count,
      { case (model, _) => function(model, Map("task" -> "run")) }
    )
  )

  private def texts(options: Map[_, _]): Map[String, String] =
    options.map { case (key, value) => key.toString -> value.toString }

  private type Known = ConcurrentHashMap[(String, String, Map[String, String]), ModelFunction]

  private val known = Collections.synchronizedMap(new WeakHashMap[SparkSession, Known])

  /** The function of a model, the same one for equal calls while its file stays the same. */
  private def function(model: String, options: Map[String, String]): ModelFunction = {
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
