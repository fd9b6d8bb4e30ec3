package sparkdl.engine

import java.io.{FileNotFoundException, InputStream, IOException}
import java.nio.file.{Files, Path, Paths}
import java.util.concurrent.ConcurrentHashMap

import org.apache.hadoop.fs.{FileStatus, Path => HadoopPath}
import org.apache.spark.sql.SparkSession

import sparkdl.ffi.{ErrorKind, SparkDLArgumentException}

/** Finds the bundle that a stage asks for, on the driver, and takes it to the tasks. */
private[sparkdl] final class Bundles(session: SparkSession) {
  import Bundles.Recipe
  import BundleSource._

  private val conf = EngineConf.of(session)
  private val cache = new CacheFolder(Paths.get(conf.cacheDir))

  /**
   * The bundle; made from a Keras file, given or published, where that can be done here, else an error that says how to
   * make it. Never runs Keras.
   */
  def resolve(source: BundleSource): Bundle = source match {
    case Kept(digest) => kept(digest)
    case File(path, sha256) => fetch(path, sha256)
    case Published(model, key, weights, layer) =>
      val recipe = Recipe.named(cache, KerasConversion(model, layer, published = true), key, "imagenet")
      if (!recipe.isMade) {
        val file = new PublishedWeights(session, cache, conf).file(weights)
        convert(file, file.toString, recipe)
      }
      made(recipe)
    case Weights(model, path, layer, sha256) =>
      made(fromFile(path, sha256) { (digest, _) =>
        Bundles.weightDigests.put(path, digest)
        Recipe.named(cache, KerasConversion(model, layer), Bundles.key(digest), path)
      })
    case KerasFile(path, size, sha256) =>
      made(fromFile(path, sha256)((digest, name) =>
        Recipe.tensors(cache, name, Bundles.key(digest), size, path)))
  }

  /**
   * What can be told of the bundle before it is needed: nothing for a built-in model whose bundle is not made yet. A
   * whole Keras model is read for it, since its inputs and outputs stand nowhere else.
   */
  def describe(source: BundleSource): Option[Manifest] = source match {
    case Kept(digest) => Some(kept(digest).manifest)
    case File(path, sha256) =>
      Some(reading(path) { status =>
        if (sha256.isDefined) check(path, digestOf(status), sha256)
        Manifest.read(open(status), path)
      })
    case Published(model, key, _, layer) =>
      Recipe.named(cache, KerasConversion(model, layer, published = true), key, "imagenet").manifest
    case Weights(model, path, layer, _) =>
      Option(Bundles.weightDigests.get(path)).flatMap { digest =>
        Recipe.named(cache, KerasConversion(model, layer), Bundles.key(digest), path).manifest
      }
    case KerasFile(_, _, _) => Some(resolve(source).manifest)
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

  private def fetch(path: String, sha256: Option[String]): Bundle = reading(path) { status =>
    if (sha256.isDefined) check(path, digestOf(status), sha256)
    val digest = Bundles.memo(status)(cache.keep(open(status)))
    // The cache may have been emptied, or be another one, since this process saw the file.
    val now = if (Files.exists(cache.stage(digest))) digest else cache.keep(open(status))
    check(path, now, sha256)
    Bundle(cache.stage(now), now)
  }

  /** Makes the bundle of a Keras file, where it is not made yet. `recipe` takes the file's digest and name. */
  private def fromFile(path: String, sha256: Option[String])(recipe: (String, String) => Recipe): Recipe =
    reading(path) { status =>
      val digest = digestOf(status)
      check(path, digest, sha256)
      val asked = recipe(digest, status.getPath.getName)
      if (!asked.isMade) {
        val place = status.getPath
        val shown = if (place.toUri.getScheme == "file") place.toUri.getPath else place.toString
        cache.making(open(status)) { (copy, found) =>
          if (found != digest)
            throw ErrorKind.Io.exception(
              s"The file $path changed while it was read: try again when it is whole.")
          convert(copy, shown, asked)
        }
      }
      asked
    }

  private def made(recipe: Recipe): Bundle = {
    if (!Files.exists(recipe.bundle)) throw notMade(recipe, None)
    // As Hadoop's paths are spelled: a URI's percent signs would be part of the name.
    val digest = reading(s"file:${recipe.bundle.toAbsolutePath}")(digestOf)
    Bundle(cache.link(recipe.bundle, digest), digest)
  }

  private def check(path: String, found: String, sha256: Option[String]): Unit =
    sha256.filterNot(_.equalsIgnoreCase(found)).foreach { asked =>
      throw ErrorKind.InvalidModel.exception(
        s"$path has SHA-256 $found, but expectedSha256 is ${asked.toLowerCase}: it is another file or was changed. " +
          "Give the right file, or change expectedSha256."
      )
    }

  /** Makes the bundle of a Keras file; where the native reader refuses the file, Keras itself may still read it. */
  private def convert(file: Path, shown: String, recipe: Recipe): Unit = {
    Files.createDirectories(recipe.bundle.getParent)
    try Native.convertKeras(file.toString, recipe.bundle.toString, recipe.conversion, conf)
    catch {
      case refused: SparkDLArgumentException if refused.kind == ErrorKind.InvalidModel =>
        val reason = refused.getMessage.replace(file.toString, shown)
        throw notMade(recipe, Some((reason, refused)))
    }
  }

  private def notMade(recipe: Recipe, refusal: Option[(String, Throwable)]) = {
    val reason = refusal.fold("")(refused => s"It could not be made here: ${refused._1} ")
    ErrorKind.InvalidArgument.exception(
      s"No bundle of ${recipe.shown} is in the cache folder: ${recipe.bundle} is missing. ${reason}Make it with\n" +
        s"  python -m sparkdl export ${recipe.exportOptions}\n" +
        s"which writes it to that folder (set SPARKDL_CACHE_DIR=${Bundles.quoted(conf.cacheDir)} for the command).",
      refusal.map(_._2).orNull
    )
  }

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

  private def digestOf(status: FileStatus): String = Bundles.memo(status)(CacheFolder.digest(open(status)))

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

  /** What becomes of a Keras file, where it lies in the cache, and how a user makes it by hand. */
  private final case class Recipe(
      conversion: KerasConversion,
      bundle: Path,
      shown: String,
      exportOptions: String) {

    /** Names of layers may differ where the names of files do not. */
    def isMade: Boolean = Files.exists(bundle) && conversion.featureLayer.forall { layer =>
      manifest.exists { case found: PictureManifest => found.featureLayer.contains(layer); case _ => false }
    }

    def manifest: Option[Manifest] =
      Option.when(Files.exists(bundle))(Manifest.read(Files.newInputStream(bundle), bundle.toString))
  }

  private object Recipe {

    /** A built-in model with these weights. */
    def named(cache: CacheFolder, conversion: KerasConversion, key: String, weights: String): Recipe = {
      val layer = conversion.featureLayer.fold("")("-" + clean(_))
      Recipe(
        conversion,
        cache.bundles.resolve(s"${conversion.modelName}-$key$layer${CacheFolder.extension}"),
        s"${conversion.modelName} with the weights $weights",
        s"--model ${conversion.modelName} --weights ${quoted(weights)}" +
          conversion.featureLayer.fold("")(layer => s" --feature-layer ${quoted(layer)}")
      )
    }

    /** A model of any kind. */
    def tensors(
        cache: CacheFolder,
        name: String,
        key: String,
        size: Option[(Int, Int)],
        path: String): Recipe = {
      val sides = size.map { case (height, width) => s"${height}x$width" }
      val stem = clean(name.substring(0, math.max(name.lastIndexOf('.'), 0)))
      val bundle = cache.bundles.resolve(s"$stem-$key${sides.fold("")("-" + _)}${CacheFolder.extension}")
      Recipe(
        KerasConversion("", inputSize = sides),
        bundle,
        s"the Keras file $path",
        s"--tensors --model ${quoted(path)}${sides.fold("")(" --input-size " + _)} --output ${quoted(bundle.toString)}"
      )
    }
  }

  /** A part of a file's name. */
  private def clean(name: String): String = name.replaceAll("[^A-Za-z0-9_.-]", "_")

  /** A word of a shell command. */
  private def quoted(word: String): String =
    if (word.matches("[A-Za-z0-9_@%+=:,./-]+")) word else "'" + word.replace("'", "'\\''") + "'"
}
