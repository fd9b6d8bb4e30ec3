package sparkdl

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}
import org.apache.spark.ml.param._

/**
 * Prints the params of every public stage as JSON, for the test that holds the Python stages to them:
 * `{"DeepImageFeaturizer": [{"name": …, "type": …, "doc": …, "default": …}, …]}`. `default` is missing where a param
 * has none; the uid in a default stands as `<uid>`.
 */
object ParamsDump {

  def main(arguments: Array[String]): Unit = println(dump)

  def dump: String = {
    val json = new ObjectMapper()
    val root = json.createObjectNode()
    StageChecks.stages.map(_()).foreach { stage =>
      val rows = root.putArray(stage.getClass.getSimpleName)
      stage.params.sortBy(_.name).toSeq.asInstanceOf[Seq[Param[Any]]].foreach { param =>
        val row = rows.addObject().put("name", param.name).put("type", kind(param)).put("doc", param.doc)
        stage.getDefault(param).foreach { value =>
          row.set[JsonNode]("default", json.readTree(param.jsonEncode(value).replace(stage.uid, "<uid>")))
        }
      }
    }
    json.writerWithDefaultPrettyPrinter.writeValueAsString(root)
  }

  private def kind(param: Param[_]): String = param match {
    case _: BooleanParam => "boolean"
    case _: IntParam => "int"
    case _: LongParam => "long"
    case _: StringArrayParam => "array<string>"
    case _: IntArrayParam => "array<int>"
    case _ => "string"
  }
}
