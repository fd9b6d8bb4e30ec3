package sparkdl

import org.apache.spark.sql.types._

/** Which Scala values the results of a model become. */
private[sparkdl] sealed trait OutputKind extends Serializable

private[sparkdl] object OutputKind {

  /** MLlib's dense vector. */
  case object Vector extends OutputKind

  /** Numbers and arrays of numbers as the model gives them. */
  case object Array extends OutputKind

  /** Spark's image struct, named after the row's file. */
  case object Image extends OutputKind

  /** The best classes by name. */
  case object Classes extends OutputKind

  /** The column type of `Classes`, best first. */
  val classes: ArrayType = ArrayType(
    StructType(
      Seq(
        StructField("class", StringType, nullable = false),
        StructField("description", StringType, nullable = false),
        StructField("probability", FloatType, nullable = false)
      )
    ),
    containsNull = false
  )
}
