package sparkdl.engine

import org.apache.spark.SparkEnv
import org.apache.spark.sql.SparkSession

import sparkdl.ffi.ErrorKind

/**
 * The settings `spark.sparkdl.*` that were set explicitly, as a value that travels to the executors.
 *
 * What was not set is looked up where it is used: in the environment of that process, then the default.
 */
final case class EngineConf(set: Map[String, String]) {
  import EngineConf._

  /** Folder for bundles, stages and unpacked libraries; created when needed. */
  def cacheDir: String = get(CacheDir)

  /** Folder or file of TensorFlow's library; empty: it is looked for. */
  def tensorflowPath: String = get(TensorFlowPath)

  /** The Python whose `tensorflow` package is looked up. */
  def python: String = get(Python)

  /** At most so many threads work on one native call; 0: as many as the machine offers. */
  def threads: String = get(Threads)

  /** Folder of a mirror of the weights that Keras publishes; empty: where Keras has them. */
  def weightsUrl: String = get(WeightsUrl)

  /** From which level on the library's log lines reach SLF4J. */
  def logLevel: String = get(LogLevel)

  /** The value of a setting, checked. */
  def get(entry: Entry): String = {
    val (value, origin) = set
      .get(entry.key)
      .map(_ -> entry.key)
      .orElse(entry.environment.flatMap(name =>
        sys.env.get(name).filter(_.nonEmpty).map(_ -> name)).headOption)
      .getOrElse(entry.default() -> entry.key)
    if (!entry.valid(value)) {
      throw ErrorKind.InvalidArgument.exception(s"$origin must be ${entry.range} but was $value.")
    }
    value
  }
}

object EngineConf {

  /** One setting: its Spark key, the environment variables that stand in for it, and what it may be. */
  final class Entry private[EngineConf] (
      val key: String,
      val doc: String,
      val environment: Seq[String],
      val default: () => String,
      val range: String = "a text",
      val valid: String => Boolean = _ => true
  )

  private val Levels = Seq("error", "warn", "info", "debug", "trace", "off")

  val CacheDir: Entry = new Entry(
    "spark.sparkdl.cacheDir",
    "Folder for bundles, stages and unpacked libraries",
    Seq("SPARKDL_CACHE_DIR"),
    () => defaultCacheDir
  )

  val TensorFlowPath: Entry = new Entry(
    "spark.sparkdl.tensorflow.path",
    "Folder or file of TensorFlow's library; empty: class path, then the Python package",
    Seq("SPARKDL_TENSORFLOW_PATH"),
    () => ""
  )

  val Python: Entry = new Entry(
    "spark.sparkdl.python",
    "The Python whose tensorflow package is looked up",
    Seq("SPARKDL_PYTHON", "PYSPARK_PYTHON"),
    () => "python3"
  )

  val Threads: Entry = new Entry(
    "spark.sparkdl.threads",
    "At most so many threads work on one native call; 0: as many as the machine offers",
    Seq("SPARKDL_THREADS"),
    () => "0",
    "a whole number from 0 to 1024",
    _.toIntOption.exists(n => n >= 0 && n <= 1024)
  )

  val WeightsUrl: Entry = new Entry(
    "spark.sparkdl.weightsUrl",
    "Folder of a mirror of the published weights, on HTTP or any Hadoop file system; empty: where Keras has them",
    Seq("SPARKDL_WEIGHTS_URL"),
    () => ""
  )

  val LogLevel: Entry = new Entry(
    "spark.sparkdl.logLevel",
    "From which level on the native library's log lines reach SLF4J",
    Seq("SPARKDL_LOG_LEVEL"),
    () => "info",
    Levels.mkString("one of ", ", ", ""),
    Levels.contains(_)
  )

  /** Every setting there is. */
  val entries: Seq[Entry] = Seq(CacheDir, TensorFlowPath, Python, Threads, WeightsUrl, LogLevel)

  /** What is set in a session, on the driver. */
  def of(spark: SparkSession): EngineConf =
    EngineConf(entries.flatMap(e => spark.conf.getOption(e.key).map(e.key -> _)).toMap)

  /** What this process was started with: for code that has no session at hand, such as a task's. */
  def ofProcess: EngineConf = {
    val started = Option(SparkEnv.get).map(_.conf.getAll.toMap).getOrElse(Map.empty)
    EngineConf(started.filter { case (key, _) => entries.exists(_.key == key) })
  }

  private def defaultCacheDir: String = {
    val base =
      sys.env.get("XDG_CACHE_HOME").filter(_.nonEmpty).getOrElse(s"${System.getProperty("user.home")}/.cache")
    s"$base/spark-deep-learning"
  }
}
