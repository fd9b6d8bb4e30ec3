package sparkdl.engine

import java.io.{FileNotFoundException, InputStream, IOException}
import java.nio.file.{Files, Path, Paths}
import java.util.concurrent.ConcurrentHashMap

import org.apache.hadoop.fs.{FileStatus, Path => HadoopPath}
import org.apache.spark.SparkFiles
import org.apache.spark.sql.SparkSession

import sparkdl.ffi.{ErrorKind, SparkDLArgumentException}

/** Where the bundle of a stage comes from. */
private[sparkdl] sealed trait BundleSource

private[sparkdl] object BundleSource {

  /** The stage was loaded with it. */
  final case class Kept(digest: String) extends BundleSource

  /** A path or URI of any Hadoop file system. */
  final case class File(path: String) extends BundleSource

  /** Made from the weights that Keras publishes; `key` pins them. */
  final case class Published(model: String, key: String, weights: WeightFile) extends BundleSource

  /** Exported from a weight file; its digest is the key. */
  final case class Weights(model: String, path: String) extends BundleSource
}

/** A bundle on the driver's disk; `file` is never changed in place. */
private[sparkdl] final case class Bundle(file: Path, digest: String) {

  /** What the schema needs of it. */
  def manifest: Manifest = Manifest.read(Files.newInputStream(file), file.toString)
}

/** A bundle that tasks can open: where it lies is asked on the machine that runs the task. */
private[sparkdl] final case class ShippedBundle(digest: String, driverFile: Option[String]) {

  def file: String = driverFile.getOrElse(SparkFiles.get(digest + CacheFolder.extension))
}

/** Finds the bundle that a stage asks for, on the driver, and takes it to the tasks. */
private[sparkdl] final class Bundles(session: SparkSession) {
  import BundleSource._

  private val conf = EngineConf.of(session)
  private val cacheDir = conf.cacheDir
  private val cache = new CacheFolder(Paths.get(cacheDir))

  /**
   * The bundle; made from a Keras file, given or published, where that can be done here, else an error that says how to
   * make it. Never runs Keras.
   */
  def resolve(source: BundleSource): Bundle = source match {
    case Kept(digest) => kept(digest)
    case File(path) => fetch(path)
    case Published(model, key, weights) =>
      val bundle = exportedFile(model, key)
      if (!Files.exists(bundle)) {
        val file = new PublishedWeights(session, cache, conf).file(weights)
        convert(file, file.toString, model, bundle, published = true)
      }
      exported(model, key, "imagenet")
    case Weights(model, path) =>
      val key = reading(path) { status =>
        val digest = Bundles.memo(status)(CacheFolder.digest(open(status)))
        Bundles.weightDigests.put(path, digest)
        val bundle = exportedFile(model, Bundles.key(digest))
        if (!Files.exists(bundle)) {
          val weights = status.getPath
          val shown = if (weights.toUri.getScheme == "file") weights.toUri.getPath else weights.toString
          cache.making(open(status))(convert(_, shown, model, bundle, published = false))
        }
        Bundles.key(digest)
      }
      exported(model, key, path)
  }

  /** What can be told of the bundle without reading weights or a whole bundle; nothing for weights not seen before. */
  def describe(source: BundleSource): Option[Manifest] = source match {
    case Kept(digest) => Some(kept(digest).manifest)
    case File(path) => Some(reading(path)(status => Manifest.read(open(status), path)))
    case Published(_, _, _) => None
    case Weights(model, path) =>
      val file =
        Option(Bundles.weightDigests.get(path)).map(digest => exportedFile(model, Bundles.key(digest)))
      file.filter(Files.exists(_)).map(Bundle(_, "").manifest)
  }

  /** Makes a bundle readable for tasks, once per application. */
  def ship(bundle: Bundle): ShippedBundle = {
    val context = session.sparkContext
    if (context.isLocal) ShippedBundle(bundle.digest, Some(bundle.file.toString))
    else {
      if (!context.listFiles().exists(_.endsWith("/" + bundle.file.getFileName)))
        context.addFile(bundle.file.toString)
      ShippedBundle(bundle.digest, None)
    }
  }

  /** Keeps a bundle that comes as a stream, and checks that it is the one expected. */
  def keep(stream: => InputStream, digest: String, source: String): Bundle = {
    if (!Files.exists(cache.stage(digest))) {
      val found = cache.keep(stream)
      if (found != digest)
        throw ErrorKind.InvalidModel.exception(
          s"The bundle saved under $source is damaged: its SHA-256 is $found but its metadata says $digest. " +
            "Save the stage again."
        )
    }
    Bundle(cache.stage(digest), digest)
  }

  private def kept(digest: String): Bundle = {
    val file = cache.stage(digest)
    if (!Files.exists(file))
      throw ErrorKind.InvalidArgument.exception(
        s"The bundle of a loaded stage is no longer in the cache folder: $file is missing. Load the stage again."
      )
    Bundle(file, digest)
  }

  private def fetch(path: String): Bundle = reading(path) { status =>
    val digest = Bundles.memo(status)(cache.keep(open(status)))
    // The cache may have been emptied, or be another one, since this process saw the file.
    if (!Files.exists(cache.stage(digest))) cache.keep(open(status))
    Bundle(cache.stage(digest), digest)
  }

  private def exported(model: String, key: String, weights: String): Bundle = {
    val file = exportedFile(model, key)
    if (!Files.exists(file)) throw notExported(model, weights, file, None)
    val digest =
      reading(file.toUri.toString)(status => Bundles.memo(status)(CacheFolder.digest(open(status))))
    Bundle(cache.link(file, digest), digest)
  }

  private def exportedFile(model: String, key: String): Path =
    cache.bundles.resolve(s"$model-$key${CacheFolder.extension}")

  /** Makes the bundle of a Keras file; where the native reader refuses the file, Keras itself may still read it. */
  private def convert(file: Path, shown: String, model: String, bundle: Path, published: Boolean): Unit = {
    Files.createDirectories(bundle.getParent)
    try Native.convertKeras(file.toString, bundle.toString, model, published, conf)
    catch {
      case refused: SparkDLArgumentException if refused.kind == ErrorKind.InvalidModel =>
        val reason = refused.getMessage.replace(file.toString, shown)
        throw notExported(model, if (published) "imagenet" else shown, bundle, Some((reason, refused)))
    }
  }

  private def notExported(
      model: String,
      weights: String,
      expected: Path,
      refusal: Option[(String, Throwable)]
  ) = ErrorKind.InvalidArgument.exception(
    s"No bundle of $model with the weights $weights is in the cache folder: $expected is missing. " +
      refusal.fold("")(refused => s"It could not be made here: ${refused._1} ") + "Make it with\n" +
      s"  python -m sparkdl export --model $model --weights ${Bundles.quoted(weights)}\n" +
      s"which writes it to that folder (set SPARKDL_CACHE_DIR=${Bundles.quoted(cacheDir)} for the command).",
    refusal.map(_._2).orNull
  )

  private def reading[T](path: String)(action: FileStatus => T): T =
    try {
      val place = new HadoopPath(path)
      val status = place.getFileSystem(session.sparkContext.hadoopConfiguration).getFileStatus(place)
      if (status.isDirectory) throw ErrorKind.InvalidArgument.exception(s"$path is a folder, not a file.")
      action(status)
    } catch {
      case error: FileNotFoundException =>
        throw ErrorKind.InvalidArgument.exception(s"The file $path does not exist.", error)
      case error: IOException =>
        throw ErrorKind.Io.exception(s"Cannot read $path: ${error.getMessage}", error)
    }

  private def open(status: FileStatus): InputStream =
    status.getPath.getFileSystem(session.sparkContext.hadoopConfiguration).open(status.getPath)
}

private[sparkdl] object Bundles {

  /** Digests are taken once per file and version of it: `transform` may be called often. */
  private val digests = new ConcurrentHashMap[(String, Long, Long), String]()

  /** By the path of a weight file: what it held when it was last read. */
  private val weightDigests = new ConcurrentHashMap[String, String]()

  private def memo(status: FileStatus)(digest: => String): String =
    digests.computeIfAbsent((status.getPath.toString, status.getLen, status.getModificationTime), _ => digest)

  private def key(digest: String): String = digest.take(16)

  /** A word of a shell command. */
  private def quoted(word: String): String =
    if (word.matches("[A-Za-z0-9_@%+=:,./-]+")) word else "'" + word.replace("'", "'\\''") + "'"
}
