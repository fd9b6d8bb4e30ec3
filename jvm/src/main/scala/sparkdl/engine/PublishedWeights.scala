package sparkdl.engine

import java.io.{FileNotFoundException, IOException}
import java.nio.file.{Files, Path, Paths}

import org.apache.hadoop.fs.{Path => HadoopPath}
import org.apache.spark.sql.SparkSession

import sparkdl.ffi.ErrorKind

/**
 * A weight file that Keras publishes; `hash` is hex, `hashAlgorithm` md5 or sha256, `cachedAs` its name in Keras' own
 * cache where that is another.
 */
private[sparkdl] final case class WeightFile(
    url: String,
    hash: Option[String],
    hashAlgorithm: String,
    cachedAs: Option[String]
) {

  /** The file's name at the host, at mirrors and in our cache. */
  def name: String = url.substring(url.lastIndexOf('/') + 1)
}

/** The weight files that Keras publishes: in the cache, in Keras' own folder, or fetched; always checked. */
private[engine] final class PublishedWeights(session: SparkSession, cache: CacheFolder, conf: EngineConf) {

  /** The file on the driver's disk. */
  def file(wanted: WeightFile): Path = {
    val target = cache.weights(wanted.name)
    val keras = PublishedWeights.kerasFolder.resolve(wanted.cachedAs.getOrElse(wanted.name))
    if (Files.exists(target)) checked(target, wanted)
    else if (Files.exists(keras) && wrongHash(keras, wanted).isEmpty) keras
    else fetched(wanted, target)
  }

  private def fetched(wanted: WeightFile, target: Path): Path = {
    val mirror = conf.weightsUrl.stripSuffix("/")
    val url = if (mirror.isEmpty) wanted.url else s"$mirror/${wanted.name}"
    if (url.matches("https?:.*")) {
      Native.download(url, target.toString, wanted, conf)
      target
    } else {
      val place = new HadoopPath(url)
      val stream =
        try place.getFileSystem(session.sparkContext.hadoopConfiguration).open(place)
        catch {
          case error: FileNotFoundException =>
            throw ErrorKind.Io.exception(s"The mirror has no $url. ${advice(target)}", error)
          case error: IOException =>
            throw ErrorKind.Io.exception(s"Cannot read $url: ${error.getMessage}. ${advice(target)}", error)
        }
      cache.keepWeights(wanted.name, stream) { copy =>
        wrongHash(copy, wanted).foreach { found =>
          throw ErrorKind.Io.exception(
            s"$url is not the published file: its ${wanted.hashAlgorithm} is $found, not ${wanted.hash.mkString}. " +
              advice(target)
          )
        }
      }
    }
  }

  private def advice(target: Path): String =
    s"Put the file at $target by hand, or name another mirror's folder: ${EngineConf.WeightsUrl.key}."

  private def checked(file: Path, wanted: WeightFile): Path = {
    wrongHash(file, wanted).foreach { found =>
      throw ErrorKind.Io.exception(
        s"The weights $file are damaged or not the published ones: their ${wanted.hashAlgorithm} is $found, not " +
          s"${wanted.hash.mkString}, which Keras publishes. Delete the file, or put the right one in its place."
      )
    }
    file
  }

  /** What it is, where it is not what it should be. */
  private def wrongHash(file: Path, wanted: WeightFile): Option[String] = wanted.hash.flatMap { expected =>
    Some(CacheFolder.hash(file, wanted.hashAlgorithm)).filter(_ != expected)
  }
}

private[engine] object PublishedWeights {

  private def kerasFolder: Path =
    Paths.get(sys.env.getOrElse("KERAS_HOME", s"${System.getProperty("user.home")}/.keras"), "models")
}
