package sparkdl

import java.nio.file.{Files, Path}

import org.apache.spark.sql.SparkSession

import sparkdl.engine._
import sparkdl.ffi.ErrorKind

/**
 * A TensorFlow graph that was read: what runs of it for its outputs, its variables as constants.
 *
 * It lies as a bundle in the driver's cache folder; stages that use it carry it to the tasks and save it. Tensors are
 * named `node:0`; `:0` may be left out. The first dimension of each must be open: the rows. (`Blocks.mapRows` runs a graph
 * of one row, `Blocks.reduceBlocks` and `Blocks.aggregate` one whose outputs have no rows.)
 *
 * @param path of the bundle, as a `file:` URI
 * @param name what messages call it
 */
final class TFInputGraph private (
    val path: String,
    val name: String,
    val inputs: Seq[TensorSpec],
    val outputs: Seq[TensorSpec]) {

  /** Column to key of the signature, as column to name of the tensor. */
  def translateInputMapping(mapping: Map[String, String]): Map[String, String] =
    mapping.map { case (column, key) => column -> TensorNames.find(key, inputs, "input", name).tensor }

  /** Key of the signature to column, as name of the tensor to column. */
  def translateOutputMapping(mapping: Map[String, String]): Map[String, String] =
    mapping.map { case (key, column) => TensorNames.find(key, outputs, "output", name).tensor -> column }

  /** Inputs and outputs with their types and shapes, a line each; `any` is a side of any size. */
  def schemaString: String = {
    def lines(title: String, specs: Seq[TensorSpec]) = title +: specs.map { spec =>
      val rows = if (spec.rows) "" else ", no rows"
      s" |-- ${spec.name}: ${spec.dtype} ${spec.shownShape} (tensor ${spec.tensor}$rows)"
    }
    (lines("inputs", inputs) ++ lines("outputs", outputs)).map(_ + "\n").mkString
  }

  /** Prints `schemaString`. */
  def printSchema(): Unit = print(schemaString)

  override def toString: String = s"TFInputGraph($name, ${inputs.size} inputs, ${outputs.size} outputs)"
}

/**
 * Ways to read a graph. Paths are those of any Hadoop file system.
 *
 * Operations that reach beyond the graph (files, processes, Python, network, queues) are refused unless `allowUnsafeOps` is
 * given here, and to the stage as well.
 */
object TFInputGraph {

  /** The tag of the graph that TensorFlow and Keras save for use. */
  val Serve: String = "serve"

  /** The signature that TensorFlow and Keras give a model unless told otherwise. */
  val ServingDefault: String = "serving_default"

  /** A file with a serialised `GraphDef`. */
  def fromGraphDef(path: String, inputs: Seq[String], outputs: Seq[String]): TFInputGraph =
    fromGraphDef(path, inputs, outputs, allowUnsafeOps = false)

  /** A file with a serialised `GraphDef`. */
  def fromGraphDef(
      path: String,
      inputs: Seq[String],
      outputs: Seq[String],
      allowUnsafeOps: Boolean): TFInputGraph =
    converted(path, byTensors(path, inputs, outputs), allowUnsafeOps)

  /** A serialised `GraphDef`. */
  def fromGraphDef(graph: Array[Byte], inputs: Seq[String], outputs: Seq[String]): TFInputGraph =
    fromGraphDef(graph, inputs, outputs, allowUnsafeOps = false)

  /** A serialised `GraphDef`. */
  def fromGraphDef(
      graph: Array[Byte],
      inputs: Seq[String],
      outputs: Seq[String],
      allowUnsafeOps: Boolean): TFInputGraph = {
    val conversion = byTensors("graph", inputs, outputs).copy(allowUnsafeOps = allowUnsafeOps)
    of(new Graphs(SparkSession.active).bundle(graph, conversion))
  }

  /** A SavedModel of TensorFlow 1 or 2: the graph with these tags. */
  def fromSavedModel(
      path: String,
      inputs: Seq[String],
      outputs: Seq[String],
      tags: Seq[String] = Seq(Serve),
      allowUnsafeOps: Boolean = false): TFInputGraph =
    converted(path, byTensors(path, inputs, outputs).copy(tags = tags), allowUnsafeOps)

  /** The same, with inputs and outputs from a signature. */
  def fromSavedModelWithSignature(
      path: String,
      signature: String = ServingDefault,
      tags: Seq[String] = Seq(Serve),
      allowUnsafeOps: Boolean = false): TFInputGraph =
    converted(path, bySignature(path, signature).copy(tags = tags), allowUnsafeOps)

  /** The latest checkpoint of TensorFlow 1 in a folder, or the one whose `.meta` file is given. */
  def fromCheckpoint(
      path: String,
      inputs: Seq[String],
      outputs: Seq[String],
      allowUnsafeOps: Boolean = false): TFInputGraph =
    converted(path, byTensors(path, inputs, outputs), allowUnsafeOps)

  /** The same, with inputs and outputs from a signature in its `.meta` file. */
  def fromCheckpointWithSignature(
      path: String,
      signature: String,
      allowUnsafeOps: Boolean = false): TFInputGraph =
    converted(path, bySignature(path, signature), allowUnsafeOps)

  /** A whole Keras model (`.keras`, `.h5`). */
  def fromKeras(path: String): TFInputGraph =
    of(new Bundles(SparkSession.active).resolve(BundleSource.KerasFile(path)).file)

  /** A bundle on tensors that was made before (`*.sparkdl`). */
  def fromBundle(path: String): TFInputGraph =
    of(new Bundles(SparkSession.active).resolve(BundleSource.File(path)).file)

  private def converted(path: String, conversion: GraphConversion, allowUnsafeOps: Boolean): TFInputGraph =
    of(new Graphs(SparkSession.active).bundle(path, conversion.copy(allowUnsafeOps = allowUnsafeOps)))

  private def of(bundle: Path): TFInputGraph =
    Manifest.read(Files.newInputStream(bundle), bundle.toString) match {
      case model: TensorManifest =>
        // With its scheme, since the file system that Spark takes for others may be remote; as Hadoop spells paths.
        new TFInputGraph(s"file:${bundle.toAbsolutePath}", model.name, model.inputs, model.outputs)
      case _ =>
        throw ErrorKind.InvalidArgument.exception(
          s"$bundle is a bundle for pictures: use it as modelName of DeepImageFeaturizer or DeepImagePredictor."
        )
    }

  private def byTensors(path: String, inputs: Seq[String], outputs: Seq[String]): GraphConversion =
    GraphConversion(stem(path), inputs = tensors(inputs, "inputs"), outputs = tensors(outputs, "outputs"))

  private def bySignature(path: String, signature: String): GraphConversion = {
    if (signature.isEmpty)
      throw ErrorKind.InvalidArgument.exception(
        s"The signature must be named, as \"$ServingDefault\"."
      )
    GraphConversion(stem(path), signature = signature)
  }

  private def tensors(names: Seq[String], what: String): Seq[String] = {
    if (names.isEmpty || names.exists(_.isEmpty))
      throw ErrorKind.InvalidArgument.exception(
        s"$what must be names of tensors, and not empty, but was ${names.mkString("[", ", ", "]")}."
      )
    names.map(name => if (name.contains(":")) name else s"$name:0")
  }

  /** The name of a file without folders and without its last extension. */
  private def stem(path: String): String = {
    val name = path.stripSuffix("/").split('/').last
    name.lastIndexOf('.') match {
      case dot if dot > 0 => name.take(dot)
      case _ => name
    }
  }
}
