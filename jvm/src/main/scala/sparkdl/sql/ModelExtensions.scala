package sparkdl.sql

import org.apache.spark.sql.{SparkSessionExtensions, SparkSessionExtensionsProvider}
import org.apache.spark.sql.sparkdl.SessionFunctions
import org.slf4j.LoggerFactory

/**
 * Functions that are there in every session, where the jar is: `dl_predict`, `dl_featurize`, `dl_run`, `decode_image`,
 * `resize_image`, `encode_image`, `image_info`. Without a jar on the class path from the start, name this class in
 * `spark.sql.extensions`.
 */
final class ModelExtensions extends SparkSessionExtensionsProvider {

  override def apply(extensions: SparkSessionExtensions): Unit =
    try SessionFunctions.inject(extensions, NamedFunctions.all)
    catch {
      case missing: LinkageError =>
        LoggerFactory.getLogger(getClass).warn(
          "dl_predict and the other functions of SQL are missing, since this Spark has other insides than 4.1: {}",
          missing.toString)
    }
}
