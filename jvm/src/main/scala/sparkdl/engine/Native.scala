package sparkdl.engine

import java.nio.ByteBuffer

import com.fasterxml.jackson.databind.ObjectMapper

import sparkdl.ffi.{ClasspathTensorFlow, NativeApi, NativeLibrary}

/**
 * What a Keras file is made into.
 *
 * @param modelName a built-in model; empty: a model on tensors, whatever the file holds
 * @param featureLayer the layer whose output are the features of a built-in model, where it is not the table's
 * @param inputSize `HEIGHTxWIDTH` of pictures, for a model on tensors that leaves them open
 * @param published whether the file is the one that Keras publishes for the model
 */
private[sparkdl] final case class KerasConversion(
    modelName: String,
    featureLayer: Option[String] = None,
    inputSize: Option[String] = None,
    published: Boolean = false
)

/**
 * Which part of a TensorFlow graph is meant.
 *
 * @param name what the bundle is called in messages
 * @param tags of a SavedModel: all tags of the graph that is meant
 * @param signature of a SavedModel or checkpoint; empty: `inputs` and `outputs` say it
 * @param inputs tensors (`name:0`) that are fed
 * @param outputs tensors that are asked for
 * @param allowUnsafeOps whether what runs may reach beyond the graph
 */
private[sparkdl] final case class GraphConversion(
    name: String,
    tags: Seq[String] = Nil,
    signature: String = "",
    inputs: Seq[String] = Nil,
    outputs: Seq[String] = Nil,
    allowUnsafeOps: Boolean = false
)

/** The native library: loaded and logging, its free functions as Scala values. */
object Native {

  /** What is loaded: TensorFlow's version and the file it came from. */
  final case class TensorFlow(version: String, library: String)

  /** A bundle's manifest as JSON and the SHA-256 of its file. */
  final case class Bundle(manifest: String, digest: String)

  /** The table of built-in models, as JSON. */
  lazy val namedModels: String = { ensureLoaded(EngineConf.ofProcess); NativeApi.namedModels() }

  /** Synset and label of ImageNet's classes in class order, as JSON. */
  lazy val imagenetLabels: String = { ensureLoaded(EngineConf.ofProcess); NativeApi.imagenetLabels() }

  /** Loads our library where it is not loaded yet; TensorFlow is not touched. */
  def ensureLoaded(conf: EngineConf): Unit = {
    NativeLibrary.ensureLoaded(conf.set.get(EngineConf.CacheDir.key).orNull)
    NativeApi.startLogging(conf.logLevel)
  }

  /** Loads TensorFlow, once per process; later calls return what is loaded. */
  def loadTensorFlow(conf: EngineConf): TensorFlow = {
    ensureLoaded(conf)
    val path = conf.tensorflowPath
    val cacheDir = conf.set.get(EngineConf.CacheDir.key).orNull
    val options = Seq(
      "tensorflowPath" -> path,
      // What the class path holds is not unpacked where the setting comes first.
      "tensorflowClasspath" -> (if (path.isEmpty) ClasspathTensorFlow.folder(cacheDir) else ""),
      "python" -> conf.python
    )
    val loaded = NativeApi.loadTensorFlow(pairs(options))
    TensorFlow(loaded(0), loaded(1))
  }

  /** Reads and checks a bundle on this machine's disk, without TensorFlow. */
  def describeBundle(path: String, conf: EngineConf = EngineConf.ofProcess): Bundle = {
    ensureLoaded(conf)
    val described = NativeApi.describeBundle(path)
    Bundle(described(0), described(1))
  }

  /** Writes a Keras file on this machine's disk as a bundle; neither Keras nor TensorFlow is needed. */
  def convertKeras(file: String, output: String, conversion: KerasConversion, conf: EngineConf): Unit = {
    ensureLoaded(conf)
    val options = Seq(
      "file" -> file,
      "output" -> output,
      "modelName" -> conversion.modelName,
      "published" -> conversion.published.toString,
      "featureLayer" -> conversion.featureLayer.getOrElse(""),
      "inputSize" -> conversion.inputSize.getOrElse("")
    )
    NativeApi.convertKeras(pairs(options))
  }

  /** Writes a graph, checkpoint or SavedModel on this machine's disk as a bundle, with its variables as constants. */
  def convertGraph(file: String, output: String, conversion: GraphConversion, conf: EngineConf): Unit = {
    loadTensorFlow(conf)
    val json = new ObjectMapper()
    def array(names: Seq[String]) = json.writeValueAsString(names.toArray)
    val options = Seq(
      "file" -> file,
      "output" -> output,
      "name" -> conversion.name,
      "tags" -> array(conversion.tags),
      "signature" -> conversion.signature,
      "inputs" -> array(conversion.inputs),
      "outputs" -> array(conversion.outputs),
      "allowUnsafeOps" -> conversion.allowUnsafeOps.toString
    )
    NativeApi.convertGraph(pairs(options))
  }

  /** Fetches a published file over HTTP into `target`: resumed, checked, atomic; a file that is there is only checked. */
  def download(url: String, target: String, published: WeightFile, conf: EngineConf): Unit = {
    ensureLoaded(conf)
    val options = Seq(
      "url" -> url,
      "file" -> target,
      "hash" -> published.hash.getOrElse(""),
      "hashAlgorithm" -> published.hash.fold("")(_ => published.hashAlgorithm),
      "maxBytes" -> (4L << 30).toString,
      "connectSeconds" -> "30",
      "stallSeconds" -> "30",
      "retries" -> "4",
      "pauseMillis" -> "1000",
      "httpProxy" -> proxy("http"),
      "httpsProxy" -> proxy("https"),
      "noProxy" -> sys.props.getOrElse("http.nonProxyHosts", ""),
      "advice" ->
        s", or name a mirror's folder: ${EngineConf.WeightsUrl.key} (or the environment variable SPARKDL_WEIGHTS_URL)"
    )
    NativeApi.download(pairs(options))
  }

  /** The proxy of the JVM's own properties. */
  private def proxy(scheme: String): String = {
    val port = sys.props.get(s"$scheme.proxyPort").filter(_.nonEmpty).fold("")(":" + _)
    sys.props.get(s"$scheme.proxyHost").filter(_.nonEmpty).fold("")(host => s"http://$host$port")
  }

  /** How many models and results this process has open: 0 and 0 when no task works. */
  def liveHandles(): (Long, Long) = {
    ensureLoaded(EngineConf.ofProcess)
    val live = NativeApi.liveHandles()
    (live(0), live(1))
  }

  /** How many native functions this process has called so far, this one included. */
  def calls(): Long = {
    ensureLoaded(EngineConf.ofProcess)
    NativeApi.calls()
  }

  private[engine] def pairs(options: Seq[(String, String)]): Array[String] =
    options.flatMap { case (key, value) => Seq(key, value) }.toArray

  /** Reads a result's memory, which is valid in `read` only. */
  private[engine] def withResult[A](result: Long)(read: ByteBuffer => A): A =
    try read(NativeApi.resultBuffer(result))
    finally NativeApi.releaseResult(result)
}
