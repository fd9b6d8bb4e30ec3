package sparkdl

import org.apache.spark.sql.{DataFrame, Dataset, Encoder, Encoders, Row, SparkSession}
import org.apache.spark.sql.functions.col
import org.apache.spark.sql.sparkdl.InternalRows
import org.apache.spark.sql.types.{Metadata, StructField, StructType}

import sparkdl.engine.{OtherSpark, RowExtension}

/** A dataset with columns more, all others untouched. */
private[sparkdl] object AppendedColumns {

  /** The rows as `extension` extends them: in Spark's own form, else through its public interface. */
  def apply(dataset: Dataset[_], extension: RowExtension, fields: Seq[StructField]): DataFrame =
    OtherSpark.orElse("Rows are converted one by one")(InternalRows.appended(dataset, extension, fields))(
      public(dataset, extension, fields))

  /** The same through the public interface. */
  def public(dataset: Dataset[_], extension: RowExtension, fields: Seq[StructField]): DataFrame =
    replaced(dataset, new JoinedRows(extension), dataset.schema.fields.toSeq ++ fields)

  /**
   * The rows that `run` makes, with these columns. Columns travel by position, since names may hold dots or stand twice.
   * `mapPartitions` drops the metadata of columns: the last `select` puts names and metadata back.
   */
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

/** Whole rows of rows and their new values. */
private final class JoinedRows(extension: RowExtension)
    extends (Iterator[Row] => Iterator[Row])
    with Serializable {

  override def apply(rows: Iterator[Row]): Iterator[Row] = extension.extend(rows) { (row, values) =>
    val width = row.length
    val joined = new Array[Any](width + values.length)
    (0 until width).foreach(index => joined(index) = row.get(index))
    values.copyToArray(joined, width)
    Row.fromSeq(joined.toIndexedSeq)
  }
}
