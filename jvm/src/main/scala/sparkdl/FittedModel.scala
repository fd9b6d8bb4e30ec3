package sparkdl

import org.apache.spark.ml.attribute.NominalAttribute
import org.apache.spark.ml.functions.{array_to_vector, vector_to_array}
import org.apache.spark.ml.linalg.SQLDataTypes
import org.apache.spark.ml.param.shared.{HasLabelCol, HasOutputCol, HasPredictionCol}
import org.apache.spark.sql.{Column, DataFrame, Dataset}
import org.apache.spark.sql.functions._
import org.apache.spark.sql.types._

import sparkdl.engine.Manifest
import sparkdl.params.{HasLabelIndexCol, HasPredictions}

/**
 * What PySpark's estimators fit: `predictionCol` beside the scores, the index of the best class or the number, as double.
 *
 * Where a dataset has `labelCol` and it holds no indexes itself, `labelIndexCol` has them, so that MLlib's evaluators take
 * it. Both are plain Spark expressions; streams are fine.
 */
private[sparkdl] trait FittedModel
    extends ModelFileTransformer
    with HasOutputCol
    with HasLabelCol
    with HasPredictionCol
    with HasLabelIndexCol
    with HasPredictions {

  /** @group setParam */
  def setPredictionCol(value: String): this.type = set(predictionCol, value)

  /** @group setParam */
  def setLabelCol(value: String): this.type = set(labelCol, value)

  /** @group setParam */
  def setLabelIndexCol(value: String): this.type = set(labelIndexCol, value)

  /** @group setParam */
  def setThreshold(value: Double): this.type = set(threshold, value)

  /** @group setParam */
  def setLabels(value: Array[String]): this.type = set(labels, value)

  /** @group expertSetParam */
  def setPredictionKind(value: String): this.type = set(predictionKind, value)

  /** @group expertSetParam */
  def setLabelKind(value: String): this.type = set(labelKind, value)

  /** @group expertSetParam */
  def setClasses(value: Int): this.type = set(classes, value)

  /** @group expertSetParam */
  def setTrainingHistory(value: String): this.type = set(trainingHistory, value)

  /** @group expertSetParam */
  def setFailure(value: String): this.type = set(failure, value)

  /** Whether the values that `outputMode` has mean a vector. */
  private[sparkdl] def isVector: Boolean = outputKind == OutputKind.Vector

  private def isFailed: Boolean = $(predictionKind) == "failed"

  override private[sparkdl] def describe: Option[Manifest] = if (isFailed) None else super.describe

  override def transform(dataset: Dataset[_]): DataFrame = {
    val scored = if (isFailed) withoutScores(dataset) else super.transform(dataset)
    withLabelIndex(withPrediction(scored), dataset.schema)
  }

  override def transformSchema(schema: StructType): StructType = {
    val scored = super.transformSchema(schema)
    val own = if (isFailed && !scored.fieldNames.contains($(outputCol))) scored.add(score) else scored
    val added =
      predictionField.toSeq ++ labelIndex(schema).map(_ => StructField($(labelIndexCol), DoubleType))
    StageColumns.checkNew(own, added.map(_.name))
    StructType(own.fields ++ added)
  }

  private def score: StructField =
    if (isVector) StageColumns.vector($(outputCol), Some($(classes)))
    else StructField($(outputCol), ArrayType(FloatType, containsNull = false))

  /** A failed training's model has no numbers: zeros stand for them. */
  private def withoutScores(dataset: Dataset[_]): DataFrame = {
    transformSchema(dataset.schema, logging = true)
    val zeros = array(Seq.fill(math.max(1, $(classes)))(lit(0.0)): _*)
    dataset.withColumn($(outputCol), if (isVector) array_to_vector(zeros) else zeros.cast("array<float>"))
  }

  private def predictionField: Option[StructField] = $(predictionKind) match {
    case "none" => None
    case kind @ ("class" | "binary") =>
      val named = NominalAttribute.defaultAttr.withName($(predictionCol))
      val attribute =
        if ($(labels).nonEmpty) named.withValues($(labels))
        else named.withNumValues(if (kind == "binary") 2 else $(classes))
      Some(StructField($(predictionCol), DoubleType, metadata = attribute.toMetadata()))
    case _ => Some(StructField($(predictionCol), DoubleType))
  }

  private def withPrediction(scored: DataFrame): DataFrame = predictionField.fold(scored) { field =>
    val value = $(predictionKind) match {
      case "failed" => lit(if ($(classes) > 1) -1.0 else FittedModel.neverWins)
      case kind => FittedModel.prediction(scores(scored), kind, $(threshold))
    }
    scored.withColumn(field.name, value.as(field.name, field.metadata))
  }

  /** The scores of a row as an array, flat. */
  private def scores(scored: DataFrame): Column = {
    val column = scored.col(FittedModel.quoted($(outputCol)))
    scored.schema($(outputCol)).dataType match {
      case _: NumericType => array(column)
      case _: ArrayType => column
      // Spark's function takes no null.
      case _ => when(column.isNotNull, vector_to_array(column))
    }
  }

  /** The index of a label, where it needs one. */
  private def labelIndex(schema: StructType): Option[Column] = {
    val isClass = Set("class", "binary", "failed")($(predictionKind))
    schema.find(_.name == $(labelCol)).filter(_ => isClass).flatMap { field =>
      val column = col(FittedModel.quoted(field.name))
      ($(labelKind), field.dataType) match {
        case ("number", _) | ("vector", StringType | _: NumericType) => None
        case ("vector", kind) =>
          val numbers =
            if (kind == SQLDataTypes.VectorType) when(column.isNotNull, vector_to_array(column, "float32"))
            else column.cast("array<float>")
          Some(FittedModel.prediction(numbers, if ($(classes) > 1) "class" else "value", 0.0))
        case _ =>
          val place = array_position(array($(labels).toSeq.map(lit): _*), column.cast("string"))
          val known = when(place > 0, (place - 1).cast("double"))
          Some(coalesce(known, when(column.isNotNull, $(labels).length.toDouble)))
      }
    }
  }

  private def withLabelIndex(scored: DataFrame, schema: StructType): DataFrame =
    labelIndex(schema).fold(scored)(scored.withColumn($(labelIndexCol), _))
}

private object FittedModel {

  /** Where numbers are predicted: its square is a double still. */
  val neverWins = 1e150

  def quoted(name: String): String = s"`${name.replace("`", "``")}`"

  def prediction(scores: Column, kind: String, threshold: Double): Column = kind match {
    case "class" => (array_position(scores, array_max(scores)) - 1).cast("double")
    case "binary" => when(scores(0).isNotNull, (scores(0) > threshold).cast("double"))
    case _ => scores(0).cast("double")
  }
}
