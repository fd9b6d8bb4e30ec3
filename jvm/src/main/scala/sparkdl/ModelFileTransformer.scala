package sparkdl

import org.apache.spark.ml.param.Param

import sparkdl.engine.{BundleSource, CacheFolder, Manifest, TensorManifest}
import sparkdl.ffi.ErrorKind
import sparkdl.params.HasModelFile

/**
 * A stage that runs a Keras model of one's own, or a bundle of one: what [[KerasTransformer]] and
 * [[KerasImageFileTransformer]] share.
 */
abstract class ModelFileTransformer private[sparkdl] extends ModelTransformer with HasModelFile {

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle.
   * @group setParam
   */
  def setModelFile(value: String): this.type = setNaming(modelFile, value)

  override private[sparkdl] def modelParam: String = modelFile.name

  override private[sparkdl] def namingParams: Seq[Param[_]] = Seq(modelFile, expectedSha256)

  /** Height and width of pictures, where the model may leave them open. */
  private[sparkdl] def pictureSize: Option[(Int, Int)] = None

  override private[sparkdl] def namedSource: BundleSource = $(modelFile) match {
    case path if path.endsWith(CacheFolder.extension) => BundleSource.File(path, get(expectedSha256))
    case path if ModelFileTransformer.extensions.exists(path.endsWith) =>
      BundleSource.KerasFile(path, pictureSize, get(expectedSha256))
    case other =>
      throw ErrorKind.InvalidArgument.exception(
        s"modelFile must be a Keras model (${ModelFileTransformer.extensions.mkString(", ")}) or a bundle (*.sparkdl) " +
          s"but was $other."
      )
  }

  /** The model's inputs and outputs. */
  private[sparkdl] final def tensors(manifest: Manifest): TensorManifest = manifest match {
    case found: TensorManifest => found
    case _ =>
      throw ErrorKind.InvalidArgument.exception(
        s"${getClass.getSimpleName} takes models on tensors, but ${$(modelFile)} is a bundle for pictures: use it as " +
          "modelName of DeepImageFeaturizer or DeepImagePredictor."
      )
  }
}

private object ModelFileTransformer {

  val extensions: Seq[String] = Seq(".keras", ".h5", ".hdf5")
}
