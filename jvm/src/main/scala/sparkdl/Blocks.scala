package sparkdl

import org.apache.spark.ml.util.Identifiable
import org.apache.spark.sql.{Column, DataFrame, Dataset, Row}
import org.apache.spark.sql.expressions.Window
import org.apache.spark.sql.functions.{col, row_number}
import org.apache.spark.sql.types.{StructField, StructType}

import sparkdl.engine._
import sparkdl.ffi.ErrorKind

/**
 * TensorFlow graphs over blocks of rows of a DataFrame.
 *
 * A block is `batchSize` consecutive rows of a partition; fewer at its end, and where rows hold more than 64 MiB together. No
 * more than a block is held at a time, however large a partition or a group is.
 */
object Blocks {

  /**
   * Adds the outputs of a graph of one row, which runs for each row.
   *
   * The tensors of the graph have no dimension for the rows: an input of shape `[any]` takes arrays of any length, which may
   * differ from row to row. `batchSize` rows are one native call, and TensorFlow maps the graph over those of one shape in
   * one run. A lookup table, or a variable that the graph changes, is refused: use `mapBlocks`.
   *
   * @param inputMapping column to input; when left out, each input is fed by the column of its name
   * @param outputMapping output to new column; when left out, each output becomes a column of its name
   * @param handleInvalid what becomes of rows with a null or of another shape, as in [[TFTransformer]]
   * @return the rows with one column more per output, after all others, in the order of their names
   */
  def mapRows(
      dataset: Dataset[_],
      graph: TFInputGraph,
      inputMapping: Map[String, String] = Map.empty,
      outputMapping: Map[String, String] = Map.empty,
      batchSize: Int = 256,
      handleInvalid: String = "keep",
      errorCol: Option[String] = None,
      castInputs: Boolean = false,
      outputMode: String = "array",
      allowUnsafeOps: Boolean = false): DataFrame = {
    val stage = new BlockStage("mapRows", graph, batchSize, handleInvalid, castInputs, allowUnsafeOps)
    errorCol.foreach(stage.setErrorCol)
    stage.setOutputMode(outputMode)
    stage.mapped(dataset, inputMapping, outputMapping)
  }

  /**
   * Adds the outputs of a graph that runs once for each block of rows, all of them in one tensor.
   *
   * The first dimension of every input is the rows of the block. Rows with a null, or of another shape than the first usable
   * row of their block, are not in the tensor.
   *
   * @param inputMapping column to input; when left out, each input is fed by the column of its name
   * @param outputMapping output to new column; when left out, each output becomes a column of its name
   * @param trim whether the result has the outputs alone. They may then have any number of rows, as many in each output.
   *   Without it, every output must have as many rows as the block
   * @param handleInvalid what becomes of rows that are not in the tensor: `"keep"` (null and a reason; the default without
   *   `trim`), `"skip"`, or `"error"` (the default with `trim`, which cannot keep them)
   * @return the rows with one column more per output, after all others, in the order of their names
   */
  def mapBlocks(
      dataset: Dataset[_],
      graph: TFInputGraph,
      inputMapping: Map[String, String] = Map.empty,
      outputMapping: Map[String, String] = Map.empty,
      trim: Boolean = false,
      batchSize: Int = 256,
      handleInvalid: Option[String] = None,
      errorCol: Option[String] = None,
      castInputs: Boolean = false,
      outputMode: String = "array",
      allowUnsafeOps: Boolean = false): DataFrame = {
    val (operation, handling) = if (trim) ("mapBlocksTrimmed", "error") else ("mapBlocks", "keep")
    if (trim && errorCol.isDefined)
      throw ErrorKind.InvalidArgument.exception(
        "With trim rows do not stay rows, so errorCol has no place: leave it out.")
    val stage =
      new BlockStage(
        operation,
        graph,
        batchSize,
        handleInvalid.getOrElse(handling),
        castInputs,
        allowUnsafeOps)
    errorCol.foreach(stage.setErrorCol)
    stage.setOutputMode(outputMode)
    stage.mapped(dataset, inputMapping, outputMapping)
  }

  /**
   * Reduces all rows to one by a graph that reduces any number of rows to one; runs a job.
   *
   * For each output `z` the graph has an input `z_input` with one dimension more, the rows; the column `z` feeds it. The graph
   * runs on blocks of rows, and on blocks of what it gave for those, in no order that may be relied on: what it computes must
   * not depend on how rows are grouped, as sums and maxima do not.
   *
   * @param handleInvalid what becomes of rows with a null or of another shape than the others of their block: `"error"` or
   *   `"skip"`. An output is null where that leaves nothing
   * @return one field per output, in the order of their names
   */
  def reduceBlocks(
      dataset: Dataset[_],
      graph: TFInputGraph,
      batchSize: Int = 256,
      handleInvalid: String = "error",
      castInputs: Boolean = false,
      allowUnsafeOps: Boolean = false): Row = {
    val stage = new BlockStage("reduceBlocks", graph, batchSize, handleInvalid, castInputs, allowUnsafeOps)
    stage.reduced(dataset).collect().headOption.getOrElse(throw ErrorKind.InvalidArgument.exception(
      "There is nothing to reduce: the DataFrame has no rows."))
  }

  /**
   * Reduces the rows of each group to one, as `reduceBlocks` does for all rows.
   *
   * Rows of one group are brought together as `groupBy` does, and go through the graph block by block: a group may be larger
   * than memory. Many small groups share a native call.
   *
   * @param keys the columns to group by
   * @return one row per group: the keys, and one column per output in the order of their names, null where
   *   `handleInvalid = "skip"` leaves nothing of the group
   */
  def aggregate(
      dataset: Dataset[_],
      keys: Seq[String],
      graph: TFInputGraph,
      batchSize: Int = 256,
      handleInvalid: String = "error",
      castInputs: Boolean = false,
      allowUnsafeOps: Boolean = false): DataFrame = {
    if (keys.isEmpty)
      throw ErrorKind.InvalidArgument.exception(
        "aggregate needs a column to group by; reduceBlocks takes all rows together.")
    val stage = new BlockStage("reduceBlocks", graph, batchSize, handleInvalid, castInputs, allowUnsafeOps)
    stage.aggregated(dataset, keys)
  }
}

/** A graph with the columns that it takes and gives, for one use. */
private[sparkdl] final class BlockStage(
    operation: String,
    graph: TFInputGraph,
    batchSize: Int,
    handleInvalid: String,
    castInputs: Boolean,
    allowUnsafeOps: Boolean
) extends TFTransformer(Identifiable.randomUID(operation)) {

  setTfInputGraph(graph)
  setBatchSize(batchSize)
  setHandleInvalid(handleInvalid)
  setCastInputs(castInputs)
  setAllowUnsafeOps(allowUnsafeOps)
  if (!Set("mapRows", "mapBlocks")(operation) && handleInvalid == "keep")
    throw ErrorKind.InvalidArgument.exception(
      "handleInvalid cannot be \"keep\" where rows do not stay rows: it takes \"skip\" or \"error\".")

  /** The rows, with the outputs. */
  def mapped(
      dataset: Dataset[_],
      inputMapping: Map[String, String],
      outputMapping: Map[String, String]): DataFrame = {
    def plain(specs: Seq[TensorSpec]) = specs.map(spec => BlockStage.plain(spec) -> spec.name).toMap
    setInputMapping(if (inputMapping.isEmpty) plain(graph.inputs) else inputMapping)
    setOutputMapping(if (outputMapping.isEmpty) plain(graph.outputs).map(_.swap) else outputMapping)
    if (operation != "mapBlocksTrimmed") transform(dataset)
    else {
      val (task, fields) = blockTask(dataset, keys = 0)
      AppendedColumns.replaced(
        BlockStage.select(dataset, inputs),
        new TrimmedBlocks(task, outputKind),
        fields)
    }
  }

  /** One row, or none where there is none. */
  def reduced(dataset: Dataset[_]): DataFrame = {
    pair()
    val (task, fields) = blockTask(dataset, keys = 0)
    val run = new ReducedBlocks(task, fields.map(_.dataType))
    val ofPartitions = AppendedColumns.replaced(BlockStage.select(dataset, inputs), run, fields)
    // A row of each partition is left, so one task may take them all.
    val again = new ReducedBlocks(task.copy(kinds = fields.map(_.dataType)), fields.map(_.dataType))
    AppendedColumns.replaced(ofPartitions.repartition(1), again, fields)
  }

  /** One row per group. */
  def aggregated(dataset: Dataset[_], keys: Seq[String]): DataFrame = {
    pair()
    val ofKeys = keys.map(StageColumns.find(dataset.schema, _))
    StageColumns.checkNew(StructType(ofKeys), outputs)
    val (task, fields) = blockTask(dataset, keys.size)
    // Spark says where a group begins: it knows when two keys are equal.
    val columns = keys.map(BlockStage.column)
    val place = row_number().over(Window.partitionBy(columns: _*).orderBy(columns: _*))
    val rows = BlockStage.select(dataset, keys ++ inputs, (place === 1).as("begins"))
    AppendedColumns.replaced(rows, new ReducedBlocks(task, fields.map(_.dataType)), ofKeys ++ fields)
  }

  override private[sparkdl] def task: Map[String, String] = super.task ++ Map(
    "task" -> "blocks",
    "operation" -> operation,
    "skipInvalid" -> ($(this.handleInvalid) == "skip").toString
  )

  override private[sparkdl] def tensors(manifest: Manifest): TensorManifest = {
    val model = super.tensors(manifest)
    operation match {
      case "mapRows" => model.copy(inputs = model.inputs.map(_.whole), outputs = model.outputs.map(_.whole))
      case "reduceBlocks" => model.copy(outputs = model.outputs.map(_.whole))
      case "mapBlocksTrimmed" => model.copy(outputs = model.outputs.map(_.anyRows(model.name)))
      case _ => model
    }
  }

  /** Each output with the input that takes what it gave before. */
  private def pair(): Unit = {
    val outputs = graph.outputs.map(_.whole)
    val taken = outputs.map { output =>
      val (column, wanted) = (BlockStage.plain(output), s"${BlockStage.plain(output)}_input")
      val found = graph.inputs.find(BlockStage.plain(_) == wanted).getOrElse(
        throw ErrorKind.InvalidArgument.exception(
          s"The output $column has no input $wanted, which takes its rows; the nearest: " +
            s"${TensorNames.nearest(wanted, graph.inputs.map(BlockStage.plain)).mkString(", ")}."
        ))
      BlockStage.checkPair(found, output)
      column -> found.name
    }
    setInputMapping(taken.toMap)
    setOutputMapping(outputs.map(output => output.name -> BlockStage.plain(output)).toMap)
  }

  /** What tasks need to know, and the columns of the outputs. */
  private def blockTask(dataset: Dataset[_], keys: Int): (BlockTask, Seq[StructField]) = {
    val schema = StructType(inputs.map(StageColumns.find(dataset.schema, _)))
    checkParams()
    val session = dataset.sparkSession
    val bundles = new Bundles(session)
    val bundle = bundles.resolve(source)
    checkModel(schema, bundle.manifest)
    val (options, conf) = (taskOptions(bundle.manifest), EngineConf.of(session))
    // Opens and closes: a bundle or a TensorFlow that does not work fails here, not in a job.
    TaskModel(ShippedBundle(bundle.digest, Some(bundle.file.toString)), options, conf).open().close()
    val model = TaskModel(bundles.ship(bundle), options, conf)
    val task =
      BlockTask(
        model,
        keys,
        schema.fields.map(_.dataType).toSeq,
        $(this.batchSize),
        EngineMetrics.of(session.sparkContext))
    (task, outputFields(Some(bundle.manifest)))
  }
}

private object BlockStage {

  /** The name of a tensor as a column's. */
  def plain(spec: TensorSpec): String = spec.name.stripSuffix(":0")

  /** A column by its name, whatever that holds. */
  def column(name: String): Column = col("`" + name.replace("`", "``") + "`")

  def select(dataset: Dataset[_], names: Seq[String], more: Column*): DataFrame =
    dataset.select(names.map(column) ++ more: _*)

  /** Refuses an input that does not take rows of what the output is. */
  def checkPair(input: TensorSpec, output: TensorSpec): Unit = {
    input.checkRows("the graph")
    val fits = input.shape.size == output.shape.size && input.shape.zip(output.shape).forall {
      case (Some(one), Some(other)) => one == other
      case _ => true
    }
    if (input.dtype != output.dtype || !fits)
      throw ErrorKind.InvalidArgument.exception(
        s"The input ${input.name} takes rows of type ${input.dtype} and shape ${input.shownShape}, so the output " +
          s"${output.name} must be of that type and shape, without a dimension for the rows; it is of type " +
          s"${output.dtype} and shape ${output.shownShape}."
      )
  }
}
