package sparkdl

import scala.collection.mutable.ArrayBuffer

import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.spark.ml.linalg.Vectors
import org.apache.spark.sql.Row
import org.apache.spark.sql.types.{BooleanType, DataType}

import sparkdl.engine._

/**
 * What a task needs for blocks of rows, where rows do not stay rows.
 *
 * @param keys columns before the inputs; where there are some, one more after them says where a group begins
 * @param kinds the types of the inputs
 */
private[sparkdl] final case class BlockTask(
    model: TaskModel,
    keys: Int,
    kinds: Seq[DataType],
    batchSize: Int,
    metrics: EngineMetrics) {

  def caller(): ModelCaller = new ModelCaller(model.open(), Some(metrics))

  /** The rows in order, so many at a time, fewer where they are large. */
  def blocks(rows: Iterator[Row]): Iterator[IndexedSeq[Row]] = new Iterator[IndexedSeq[Row]] {
    override def hasNext: Boolean = rows.hasNext

    override def next(): IndexedSeq[Row] = {
      val block = ArrayBuffer.empty[Row]
      var bytes = 0L
      while (rows.hasNext && block.size < batchSize && bytes < BatchIterator.MaxBytes) {
        val row = rows.next()
        block += row
        bytes += kinds.indices.iterator.map(index => ArrowCells.bytesOf(row.get(keys + index))).sum
      }
      block.toIndexedSeq
    }
  }

  /** The inputs of a block. */
  def inputs(block: IndexedSeq[Row]): Seq[(DataType, IndexedSeq[Any])] =
    kinds.indices.map(index => kinds(index) -> block.map(_.get(keys + index)))
}

/** One partition: what the graph gives for each block. */
private[sparkdl] final class TrimmedBlocks(task: BlockTask, kind: OutputKind)
    extends (Iterator[Row] => Iterator[Row])
    with Serializable {

  override def apply(rows: Iterator[Row]): Iterator[Row] = {
    val caller = task.caller()
    val results = task.blocks(rows).flatMap(block => caller.call(task.inputs(block))(read))
    results ++ BlockRows.atEnd(caller.close())
  }

  private def read(root: VectorSchemaRoot): Seq[Row] = {
    val outputs = BlockRows.outputs(root)
    (0 until root.getRowCount).map { row =>
      Row.fromSeq(outputs.map { output =>
        if (kind == OutputKind.Vector) Vectors.dense(ArrowCells.flat(output, row))
        else ArrowCells.value(output, row)
      })
    }
  }
}

/** One partition: a row for each group, or for the partition where there are no keys: its keys, and what it is reduced to. */
private[sparkdl] final class ReducedBlocks(task: BlockTask, outputs: Seq[DataType])
    extends (Iterator[Row] => Iterator[Row])
    with Serializable {

  /** What a block or several were reduced to; nothing where none of their rows could be used. */
  private type Partial = Option[Seq[Any]]

  private final class Group(val keys: Seq[Any]) {
    val partials: ArrayBuffer[Partial] = ArrayBuffer.empty
  }

  override def apply(rows: Iterator[Row]): Iterator[Row] = {
    val caller = task.caller()
    var open: Option[Group] = None

    def reduce(columns: Seq[(DataType, IndexedSeq[Any])], begins: IndexedSeq[Boolean]): Seq[Partial] =
      caller.call(columns :+ (BooleanType -> begins)) { root =>
        val vectors = BlockRows.outputs(root)
        (0 until root.getRowCount).map { row =>
          Option.unless(vectors.head.isNull(row))(vectors.map(ArrowCells.value(_, row)))
        }
      }

    def compact(group: Group): Partial = {
      val found = group.partials.flatten.toIndexedSeq
      val whole = if (found.size < 2) found.headOption
      else {
        val columns = outputs.indices.map(index => outputs(index) -> found.map(_(index)))
        reduce(columns, found.map(_ => false)).head
      }
      group.partials.clear()
      group.partials += whole
      whole
    }

    def ended(group: Group): Row =
      Row.fromSeq(group.keys ++ compact(group).getOrElse(outputs.map(_ => null)))

    /** The groups that end in a block. */
    def take(block: IndexedSeq[Row]): Seq[Row] = {
      val begins = block.map(row => task.keys > 0 && row.getBoolean(row.length - 1))
      val found = reduce(task.inputs(block), begins)
      val firsts = begins.indices.filter(row => row == 0 || begins(row))
      firsts.zip(found).flatMap { case (first, partial) =>
        val before = open.filter(_ => begins(first))
        if (open.isEmpty || begins(first))
          open = Some(new Group((0 until task.keys).map(block(first).get)))
        open.foreach { group =>
          group.partials += partial
          if (group.partials.size >= math.max(2, task.batchSize)) compact(group)
        }
        before.map(ended)
      }
    }

    val groups = task.blocks(rows).flatMap(take)
    groups ++ BlockRows.last(open.map(ended)) ++ BlockRows.atEnd(caller.close())
  }
}

private[sparkdl] object BlockRows {

  /** The columns of a result; the last holds reasons. */
  def outputs(root: VectorSchemaRoot): Seq[org.apache.arrow.vector.FieldVector] =
    (0 until root.getFieldVectors.size - 1).map(root.getVector(_))

  /** What there is to give once everything before it was taken. */
  def last(row: => Option[Row]): Iterator[Row] = Iterator.single(()).flatMap(_ => row)

  /** Nothing more; acts once everything before it was taken. */
  def atEnd(act: => Unit): Iterator[Row] = Iterator.single(()).flatMap { _ => act; None }
}
