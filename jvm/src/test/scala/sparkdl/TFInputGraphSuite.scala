package sparkdl

import java.nio.file.{Files, Path}

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}
import org.apache.hadoop.fs.{FileUtil, Path => HadoopPath}

import sparkdl.engine.TensorSpec

/** The graphs of tests/fixtures/make_graphs.py, from wherever they lie. */
class TFInputGraphSuite extends KerasFixture {
  import TFInputGraphSuite._

  private def scored(graph: TFInputGraph, input: String, output: String): Seq[Double] = {
    val session = spark
    import session.implicits._
    val rows = numbers(wanted.get("a")).map(_.toFloat).grouped(3).zipWithIndex.toSeq.map(_.swap)
    val result = new TFTransformer().setTfInputGraph(graph)
      .setInputMapping(Map("x" -> input)).setOutputMapping(Map(output -> "y"))
      .transform(rows.toDF("id", "x"))
    result.orderBy("id").collect().toSeq.flatMap(row => flat(row.getAs[Any]("y")))
  }

  private lazy val y = numbers(wanted.get("y"))

  Seq[(String, String, String, () => TFInputGraph)](
    (
      "a SavedModel of TensorFlow 1 by tensors",
      "x",
      "y",
      () =>
        TFInputGraph.fromSavedModel(graphs("saved1"), Seq("x"), Seq("y"), Seq("cpu", "serve"))),
    (
      "a SavedModel of TensorFlow 1 by its signature",
      "a",
      "b",
      () =>
        TFInputGraph.fromSavedModelWithSignature(graphs("saved1"), "predict", Seq("serve", "cpu"))),
    (
      "a SavedModel of TensorFlow 2",
      "x",
      "y",
      () => TFInputGraph.fromSavedModelWithSignature(graphs("saved2"))),
    (
      "a checkpoint by tensors",
      "x:0",
      "y:0",
      () =>
        TFInputGraph.fromCheckpoint(graphs("checkpoint"), Seq("x:0"), Seq("y"))),
    (
      "a checkpoint by its file",
      "x",
      "y",
      () =>
        TFInputGraph.fromCheckpoint(graphs("checkpoint/model-3.meta"), Seq("x"), Seq("y"))),
    (
      "a checkpoint by a signature",
      "a",
      "b",
      () =>
        TFInputGraph.fromCheckpointWithSignature(graphs("checkpoint"), "predict"))
  ).foreach { case (name, input, output, read) =>
    test(s"$name gives what TensorFlow gives") {
      assertClose(scored(read(), input, output), y)
    }
  }

  test("a GraphDef from a file and from bytes is one bundle, with names, types and shapes") {
    val (inputs, outputs) = (Seq("a", "b:0"), Seq("total", "tripled", "both"))
    val file = TFInputGraph.fromGraphDef(graphs("several.pb"), inputs, outputs)
    val bytes = TFInputGraph.fromGraphDef(Files.readAllBytes(graph("several.pb")), inputs, outputs)
    assert(file.inputs === bytes.inputs)
    assert(file.inputs(1) === TensorSpec("b:0", "b:0", "int64", Seq(None, Some(3))))
    assert(file.schemaString ===
      """inputs
        | |-- a:0: float32 [3] (tensor a:0)
        | |-- b:0: int64 [any, 3] (tensor b:0)
        |outputs
        | |-- total:0: float32 [] (tensor total:0)
        | |-- tripled:0: int64 [any, 3] (tensor tripled:0)
        | |-- both:0: float32 [any, 3] (tensor both:0)
        |""".stripMargin)
    assert(TFInputGraph.fromBundle(file.path).outputs === file.outputs)
    assert(TFInputGraph.fromGraphDef(graphs("several.pb"), inputs, outputs).path === file.path)
  }

  test("keys of a signature become names of tensors") {
    val graph = TFInputGraph.fromCheckpointWithSignature(graphs("checkpoint"), "predict")
    assert(graph.translateInputMapping(Map("column" -> "a")) === Map("column" -> "x:0"))
    assert(graph.translateOutputMapping(Map("b" -> "column")) === Map("y:0" -> "column"))
    assert(
      said(graph.translateInputMapping(Map("column" -> "q"))).endsWith("has no input q; the nearest: a."))
  }

  test("graphs come from any Hadoop file system, folders and checkpoints too") {
    hadoop.set("fs.watched.impl", classOf[WatchedFileSystem].getName)
    val folder = newFolder()
    Seq("several.pb", "saved2", "checkpoint").foreach { name =>
      FileUtil.copy(
        graph(name).toFile,
        new HadoopPath(folder.toString).getFileSystem(hadoop),
        new HadoopPath(folder.toString, name),
        false,
        hadoop)
    }
    def remote(name: String) = s"watched:${folder.resolve(name)}"
    assertClose(scored(TFInputGraph.fromSavedModelWithSignature(remote("saved2")), "x", "y"), y)
    assertClose(scored(TFInputGraph.fromCheckpoint(remote("checkpoint"), Seq("x"), Seq("y")), "x", "y"), y)
    val meta = remote("checkpoint/model-3.meta")
    assertClose(scored(TFInputGraph.fromCheckpointWithSignature(meta, "predict"), "a", "b"), y)
    assert(TFInputGraph.fromGraphDef(remote("several.pb"), Seq("a"), Seq("total")).inputs.size === 1)
    val refused = said(TFInputGraph.fromGraphDef(remote("several.pb"), Seq("a"), Seq("tota")))
    assert(
      refused.startsWith(s"Cannot use the graph ${remote("several.pb")}: its graph has no tensor tota:0"))
    assert(said(TFInputGraph.fromGraphDef(remote("none.pb"), Seq("a"), Seq("b"))).contains("does not exist"))
  }

  test("a Keras file is a graph with the names of its inputs") {
    val graph = TFInputGraph.fromKeras(keras("tensors.keras").toString)
    assert(graph.inputs.map(_.name) === Seq("tokens", "vector"))
    assert(graph.outputs.map(_.dtype) === Seq("float32", "float32", "bool"))
  }

  test("the cache folder and the default file system may be any") {
    val session = spark
    val folder = newFolder().resolve("a cache, 100% of ü")
    val before = session.conf.get("spark.sparkdl.cacheDir")
    val system = hadoop.get("fs.defaultFS")
    session.conf.set("spark.sparkdl.cacheDir", folder.toString)
    hadoop.set("fs.watched.impl", classOf[WatchedFileSystem].getName)
    try {
      val graph = TFInputGraph.fromSavedModelWithSignature(graphs("saved2"))
      assert(graph.path.startsWith(s"file:$folder"))
      hadoop.set("fs.defaultFS", "watched:///")
      assertClose(scored(graph, "x", "y"), y)
    } finally {
      session.conf.set("spark.sparkdl.cacheDir", before)
      hadoop.set("fs.defaultFS", system)
    }
  }

  test("a graph given as bytes is called so") {
    val bytes = "no graph".getBytes
    assert(said(TFInputGraph.fromGraphDef(bytes, Seq("a"), Seq("b"))) ===
      "Cannot use the graph that was given: its graph is not a TensorFlow GraphDef.")
  }

  test("what cannot be read is refused by name") {
    def refused(expected: String)(read: => TFInputGraph) = assert(said(read).contains(expected))
    refused("no signature serving, but __saved_model_init_op, serving_default")(
      TFInputGraph.fromSavedModelWithSignature(graphs("saved2"), "serving"))
    refused("no graph with the tags [\"train\"]")(
      TFInputGraph.fromSavedModelWithSignature(graphs("saved2"), tags = Seq("train")))
    refused("no tensor tota:0; the names nearest to it are total")(
      TFInputGraph.fromGraphDef(graphs("several.pb"), Seq("a"), Seq("tota")))
    refused("needs a second input, b")(
      TFInputGraph.fromGraphDef(graphs("several.pb"), Seq("a"), Seq("both")))
    refused("inputs must be names of tensors, and not empty")(
      TFInputGraph.fromGraphDef(graphs("several.pb"), Nil, Seq("both")))
    refused("the folder holds neither saved_model.pb nor checkpoint")(
      TFInputGraph.fromSavedModelWithSignature(newFolder().toString))
    refused("check that the file is there")(TFInputGraph.fromGraphDef("/no/such.pb", Seq("a"), Seq("b")))
    refused("is a bundle for pictures")(TFInputGraph.fromBundle(tiny))
  }

  private def hadoop = spark.sparkContext.hadoopConfiguration

  private def said(action: => Any): String = intercept[Exception](action).getMessage
}

object TFInputGraphSuite {

  def graph(name: String): Path = SparkFixture.fixture("graphs").resolve(name)

  def graphs(name: String): String = graph(name).toString

  /** What TensorFlow makes of the rows there. */
  lazy val wanted: JsonNode = new ObjectMapper().readTree(graph("expected.json").toFile)
}
