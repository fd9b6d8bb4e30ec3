package sparkdl

import org.apache.commons.text.similarity.LevenshteinDistance

import sparkdl.engine.TensorSpec
import sparkdl.ffi.ErrorKind

/** Tensors by the names that users have for them. */
private[sparkdl] object TensorNames {

  /** The tensor that is called so; refuses others, with the names nearest to it. `what`: input or output. */
  def find(name: String, known: Seq[TensorSpec], what: String, graph: String): TensorSpec =
    known.find(_.isCalled(name)).getOrElse {
      throw ErrorKind.InvalidArgument.exception(
        s"The graph $graph has no $what $name; the nearest: ${nearest(name, known.map(_.name)).mkString(", ")}."
      )
    }

  /** At most three names that could have been meant; all of them where none is near. */
  def nearest(name: String, known: Seq[String]): Seq[String] = {
    val distance = LevenshteinDistance.getDefaultInstance
    val near = known
      .map(other => other -> distance.apply(name, other).toInt)
      .filter { case (other, edits) => 2 * edits <= math.max(name.length, other.length) }
    if (near.isEmpty) known else near.sortBy(_._2).take(3).map(_._1)
  }
}
