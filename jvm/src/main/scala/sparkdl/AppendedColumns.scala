package sparkdl

import org.apache.spark.sql.{DataFrame, Dataset, Encoder, Encoders, Row, SparkSession}
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.types.{Metadata, StructField, StructType}

/** A dataset with columns more, all others untouched. */
private[sparkdl] object AppendedColumns {

  /**
   * The rows as `run` extends them. Columns travel by position, since names may hold dots or stand twice. `mapPartitions`
   * drops the metadata of columns: the last `select` puts names and metadata back.
   */
  def apply(
      dataset: Dataset[_],
      run: Iterator[Row] => Iterator[Row],
      fields: Seq[StructField]): DataFrame = replaced(dataset, run, dataset.schema.fields.toSeq ++ fields)

  /** The rows that `run` makes, with these columns. */
  def replaced(
      dataset: Dataset[_],
      run: Iterator[Row] => Iterator[Row],
      named: Seq[StructField]): DataFrame = {
    def numbered(fields: Seq[StructField]) = StructType(fields.zipWithIndex.map { case (field, index) =>
      field.copy(name = s"_$index", metadata = Metadata.empty)
    })
    val before = numbered(dataset.schema.fields.toSeq)
    val rows =
      dataset.toDF(before.fieldNames.toIndexedSeq: _*).as[Row](RowEncoder(dataset.sparkSession, before))
    val results = rows.mapPartitions(run)(RowEncoder(dataset.sparkSession, numbered(named)))
    // The encoder also drops the metadata of fields within structs; a cast to the same type with it puts it back.
    val columns = named.zip(results.schema.fields.toSeq).map { case (field, result) =>
      val values =
        if (result.dataType == field.dataType) col(result.name) else col(result.name).cast(field.dataType)
      values.as(field.name, field.metadata)
    }
    results.select(columns: _*)
  }
}

/**
 * Rows whose dates and times are values of `java.time`. Those of `java.sql`, which Spark gives by default, follow the
 * Julian calendar before 1582: old dates would come out of a stage as other dates.
 */
private object RowEncoder {

  def apply(session: SparkSession, schema: StructType): Encoder[Row] = {
    // Spark reads this setting from the thread's session, so it is set in one of our own and not in the user's.
    val own = session.newSession()
    own.conf.set("spark.sql.datetime.java8API.enabled", "true")
    val active = SparkSession.getActiveSession
    SparkSession.setActiveSession(own)
    try Encoders.row(schema)
    finally active.fold(SparkSession.clearActiveSession())(SparkSession.setActiveSession)
  }
}
