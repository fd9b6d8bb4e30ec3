package sparkdl.engine

import java.nio.file.{Files, Path}

import org.apache.spark.SparkFiles

/** Where the bundle of a stage comes from. `sha256` is what the file must have, where the user says it. */
private[sparkdl] sealed trait BundleSource

private[sparkdl] object BundleSource {

  /** The stage was loaded with it. */
  final case class Kept(digest: String) extends BundleSource

  /** A path or URI of any Hadoop file system. */
  final case class File(path: String, sha256: Option[String] = None) extends BundleSource

  /** Made from the weights that Keras publishes; `key` pins them. */
  final case class Published(
      model: String,
      key: String,
      weights: WeightFile,
      featureLayer: Option[String] = None)
      extends BundleSource

  /** Made from a weight file for a built-in model; the file's digest is the key. */
  final case class Weights(
      model: String,
      path: String,
      featureLayer: Option[String] = None,
      sha256: Option[String] = None)
      extends BundleSource

  /** Made from a whole Keras model; its digest is the key. `inputSize`: of pictures, where the model leaves theirs open. */
  final case class KerasFile(
      path: String,
      inputSize: Option[(Int, Int)] = None,
      sha256: Option[String] = None)
      extends BundleSource
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
