package sparkdl

import java.lang.reflect.InvocationTargetException

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.JsonNode
import org.apache.hadoop.fs.Path
import org.apache.spark.ml.{Pipeline, PipelineModel, PipelineStage, Transformer}
import org.apache.spark.ml.util.MLReader
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.types.StructType

import sparkdl.ffi.ErrorKind

/**
 * Opens saved pipelines whoever wrote them: Scala, or PySpark (classic or Connect) with stages written in Python, which
 * Spark's own `PipelineModel.load` refuses. Pipelines may stand within pipelines.
 */
object PipelineLoader {

  /** Opens a saved `Pipeline`, `PipelineModel` or single stage. */
  def load(path: String): PipelineStage = load(path, SparkSession.active)

  /** Opens a saved, fitted pipeline. */
  def loadModel(path: String): PipelineModel = load(path) match {
    case model: PipelineModel => model
    case other =>
      throw ErrorKind.InvalidArgument.exception(
        s"$path holds a ${other.getClass.getName}, not a PipelineModel: open it with PipelineLoader.load."
      )
  }

  private def load(path: String, session: SparkSession): PipelineStage = {
    val metadata = SavedStage.readMetadata(path, session)
    metadata.path("class").asText match {
      case "pyspark.ml.pipeline.Pipeline" =>
        new Pipeline(metadata.path("uid").asText).setStages(stages(path, metadata, session))
      case "pyspark.ml.pipeline.PipelineModel" =>
        assembled(metadata.path("uid").asText, stages(path, metadata, session), session)
      case name => loadStage(path, name, session)
    }
  }

  private def stages(path: String, metadata: JsonNode, session: SparkSession): Array[PipelineStage] = {
    val uids = metadata.path("paramMap").path("stageUids").elements().asScala.map(_.asText).toArray
    val digits = uids.length.toString.length
    uids.zipWithIndex.map { case (uid, index) =>
      val name = s"%0${digits}d_%s".format(index, uid)
      load(new Path(new Path(path, "stages"), name).toString, session)
    }
  }

  /**
   * `PipelineModel` has no public constructor. A pipeline of transformers alone gives one without looking at data; what
   * it does look at, the schema, is not known here.
   */
  private def assembled(uid: String, stages: Array[PipelineStage], session: SparkSession): PipelineModel = {
    stages.find(!_.isInstanceOf[Transformer]).foreach { stage =>
      throw ErrorKind.InvalidArgument.exception(
        s"The saved PipelineModel $uid holds ${stage.uid}, which is not a Transformer."
      )
    }
    val pipeline = new Pipeline(uid) {
      override def transformSchema(schema: StructType): StructType = schema
    }
    pipeline.setStages(stages).fit(session.emptyDataFrame).setParent(null)
  }

  private def loadStage(path: String, className: String, session: SparkSession): PipelineStage = {
    val loader = Option(Thread.currentThread.getContextClassLoader).getOrElse(getClass.getClassLoader)
    val read =
      try Class.forName(className, true, loader).getMethod("read")
      catch {
        case error @ (_: ClassNotFoundException | _: NoSuchMethodException) =>
          throw ErrorKind.InvalidArgument.exception(
            s"The stage saved under $path is of the class $className, which Scala cannot load: " +
              "only stages that exist in both languages travel between them.",
            error
          )
      }
    try read.invoke(null).asInstanceOf[MLReader[PipelineStage]].session(session).load(path)
    catch { case error: InvocationTargetException => throw error.getCause }
  }
}
