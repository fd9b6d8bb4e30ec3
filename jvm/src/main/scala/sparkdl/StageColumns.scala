package sparkdl

import org.apache.spark.ml.attribute.AttributeGroup
import org.apache.spark.ml.image.ImageSchema
import org.apache.spark.ml.linalg.SQLDataTypes
import org.apache.spark.sql.types._

import sparkdl.ffi.ErrorKind

/** Which columns there are, which can hold pictures, and what vectors and pictures are as new columns. */
private[sparkdl] object StageColumns {

  /** Spark's image struct, every field of which may be null, as file sources say. */
  val imageType: StructType = StructType(ImageSchema.columnSchema.fields.map(_.copy(nullable = true)))

  /** A column of vectors, with their size where it is known. */
  def vector(name: String, size: Option[Int]): StructField = {
    val metadata = size.fold(Metadata.empty)(new AttributeGroup(name, _).toMetadata())
    StructField(name, SQLDataTypes.VectorType, metadata = metadata)
  }

  /** The input column of this name; refuses one that is not there or stands twice. */
  def find(schema: StructType, name: String): StructField = schema.fields.filter(_.name == name) match {
    case Array() =>
      throw ErrorKind.InvalidArgument.exception(
        s"Column $name does not exist. Available columns: ${schema.fieldNames.mkString(", ")}."
      )
    case Array(field) => field
    case fields => throw ErrorKind.InvalidArgument.exception(
        s"Column $name is ambiguous: ${fields.length} columns have this name."
      )
  }

  /** Refuses an input column that cannot hold pictures. */
  def checkPictures(schema: StructType, name: String): Unit = {
    val kind = find(schema, name).dataType
    if (!(kind == BinaryType || isImage(kind)))
      throw ErrorKind.InvalidArgument.exception(
        s"Column $name must be of type binary or image (struct<${ImageSchema.imageFields.mkString(",")}>) " +
          s"but was actually ${shown(kind)}."
      )
  }

  /** A type for people: a vector is none of its struct. */
  def shown(kind: DataType): String = kind match {
    case SQLDataTypes.VectorType => "vector"
    case ArrayType(element, _) => s"array<${shown(element)}>"
    case other => other.catalogString
  }

  /** Whether a type is Spark's image struct, whatever it says of nulls. */
  def isImage(dataType: DataType): Boolean = dataType match {
    case struct: StructType =>
      struct.fields.map(f => f.name -> f.dataType).sameElements(imageType.fields.map(f =>
        f.name -> f.dataType))
    case _ => false
  }

  /** Refuses a new column whose name is taken. */
  def checkNew(schema: StructType, names: Seq[String]): Unit =
    names.foldLeft(schema.fieldNames.toSet) { (taken, name) =>
      if (taken(name)) throw ErrorKind.InvalidArgument.exception(s"Column $name already exists.")
      taken + name
    }
}
