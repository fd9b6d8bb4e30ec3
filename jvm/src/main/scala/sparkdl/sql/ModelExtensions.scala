package sparkdl.sql

import org.apache.spark.sql.{SparkSessionExtensions, SparkSessionExtensionsProvider}
import org.apache.spark.sql.sparkdl.SessionFunctions

import sparkdl.engine.OtherSpark

/**
 * Functions that are there in every session, where the jar is: `dl_predict`, `dl_featurize`, `dl_run`, `decode_image`,
 * `resize_image`, `encode_image`, `image_info`. Without a jar on the class path from the start, name this class in
 * `spark.sql.extensions`.
 */
final class ModelExtensions extends SparkSessionExtensionsProvider {

  override def apply(extensions: SparkSessionExtensions): Unit =
    OtherSpark.orElse("dl_predict and the other functions of SQL are missing")(
      SessionFunctions.inject(extensions, NamedFunctions.all))(())
}
