package sparkdl

import org.apache.spark.ml.image.ImageSchema
import org.apache.spark.sql.types._

import sparkdl.ffi.ErrorKind

/** Which columns can hold pictures. */
private[sparkdl] object PictureColumns {

  /** Refuses an input column that is not there, stands twice, or cannot hold pictures. */
  def checkInput(schema: StructType, name: String): Unit = schema.fields.filter(_.name == name) match {
    case Array() =>
      throw ErrorKind.InvalidArgument.exception(
        s"Column $name does not exist. Available columns: ${schema.fieldNames.mkString(", ")}."
      )
    case Array(field) =>
      if (!(field.dataType == BinaryType || isImage(field.dataType)))
        throw ErrorKind.InvalidArgument.exception(
          s"Column $name must be of type binary or image (struct<${ImageSchema.imageFields.mkString(",")}>) " +
            s"but was actually ${field.dataType.catalogString}."
        )
    case fields => throw ErrorKind.InvalidArgument.exception(
        s"Column $name is ambiguous: ${fields.length} columns have this name."
      )
  }

  /** Whether a type is Spark's image struct, whatever it says of nulls. */
  def isImage(dataType: DataType): Boolean = dataType match {
    case struct: StructType =>
      struct.fields.map(f => f.name -> f.dataType).sameElements(ImageSchema.columnSchema.fields.map(f =>
        f.name -> f.dataType))
    case _ => false
  }
}
