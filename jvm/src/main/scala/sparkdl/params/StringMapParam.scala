package sparkdl.params

import scala.collection.immutable.SortedMap
import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.ObjectMapper
import org.apache.spark.ml.param.{Param, Params}

import sparkdl.ffi.ErrorKind

/** A param of names to names, in JSON an object with its keys in order. */
final class StringMapParam(parent: Params, name: String, doc: String, isValid: Map[String, String] => Boolean)
    extends Param[Map[String, String]](parent, name, doc, isValid) {

  override def jsonEncode(value: Map[String, String]): String =
    new ObjectMapper().writeValueAsString(SortedMap.from(value).asJava)

  override def jsonDecode(json: String): Map[String, String] =
    new ObjectMapper().readTree(json).properties().asScala.map(e => e.getKey -> e.getValue.asText).toMap
}

private[params] object StringMapParam {

  /** Refuses a map that is empty or names nothing. `shape`: what its keys and values are. */
  def names(param: String, shape: String)(value: Map[String, String]): Boolean = {
    val wrong = value == null || value.isEmpty || value.exists { case (key, other) =>
      key == null || key.isEmpty || other == null || other.isEmpty
    }
    !wrong || refuse(s"$param must be a map of $shape, and neither it nor a name empty, but was $value.")
  }

  /** The same, and refuses a column that stands twice. */
  def newColumns(param: String, shape: String)(value: Map[String, String]): Boolean =
    names(param, shape)(value) && {
      val columns = value.values.toSeq
      columns.diff(columns.distinct).headOption.forall { column =>
        refuse(s"$param has the column $column twice: give each tensor its own.")
      }
    }

  private def refuse(message: String): Boolean = throw ErrorKind.InvalidArgument.exception(message)
}
