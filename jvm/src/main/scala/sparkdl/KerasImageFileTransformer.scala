package sparkdl

import org.apache.spark.ml.param.{Param, ParamMap}
import org.apache.spark.ml.param.shared.{HasInputCol, HasOutputCol}
import org.apache.spark.ml.util.{DefaultParamsReadable, Identifiable, MLReader}
import org.apache.spark.sql.Dataset
import org.apache.spark.sql.types.{ArrayType, FloatType, StringType, StructField, StructType}
import org.apache.spark.util.SerializableConfiguration

import sparkdl.engine.Manifest
import sparkdl.ffi.ErrorKind
import sparkdl.params._

/**
 * Reads the picture files that a column names, and runs them through a Keras model of one picture input.
 *
 * The input column holds paths or URIs of any Hadoop file system; tasks read the files themselves, several at a time and
 * ahead of the model. Pictures are resized to `inputSize`, or to the size that the model takes. The output is flattened
 * row by row: an MLlib vector, an `array<float>`, or a picture as Spark's image struct.
 */
class KerasImageFileTransformer(override val uid: String)
    extends ModelFileTransformer
    with HasInputCol
    with HasOutputCol
    with HasInputSize
    with HasChannelOrder
    with HasPreprocessing
    with HasImageOutputMode
    with PictureParams {

  def this() = this(Identifiable.randomUID("KerasImageFileTransformer"))

  /** @group setParam */
  def setInputCol(value: String): this.type = set(inputCol, value)

  /** @group setParam */
  def setOutputCol(value: String): this.type = set(outputCol, value)

  /**
   * A stage that was loaded with a bundle of its own forgets that bundle, in which the size may be fixed.
   * @group setParam
   */
  def setInputSize(value: Array[Int]): this.type = setNaming(inputSize, value)

  /** @group setParam */
  def setChannelOrder(value: String): this.type = set(channelOrder, value)

  /** @group setParam */
  def setPreprocessing(value: String): this.type = set(preprocessing, value)

  /** @group setParam */
  def setOutputMode(value: String): this.type = set(outputMode, value)

  override private[sparkdl] def namingParams: Seq[Param[_]] = super.namingParams :+ inputSize

  override private[sparkdl] def pictureSize: Option[(Int, Int)] =
    get(inputSize).map(size => (size(0), size(1)))

  override private[sparkdl] def checkParams(): Unit = requireParams(inputCol, modelFile)

  override private[sparkdl] def outputColumns: Seq[String] = Seq($(outputCol))

  override private[sparkdl] def checkInput(schema: StructType): Unit = {
    val kind = StageColumns.find(schema, $(inputCol)).dataType
    if (kind != StringType)
      throw ErrorKind.InvalidArgument.exception(
        s"Column ${$(inputCol)} must be of type string (the URI of a picture file) but was actually ${StageColumns.shown(kind)}."
      )
  }

  override private[sparkdl] def checkModel(schema: StructType, manifest: Manifest): Unit = {
    val model = new FileModel(tensors(manifest))
    model.check()
    model.checkSize(pictureSize)
    model.checkOutput($(outputMode))
    model.channelOrder(get(channelOrder), $(preprocessing))
  }

  override private[sparkdl] def taskOptions(manifest: Manifest): Map[String, String] = {
    val (height, width) = pictureSize.getOrElse((0, 0))
    pictureOptions ++ Map(
      "task" -> "pictures",
      "output" -> "",
      "outputMode" -> (if ($(outputMode) == "image") "image" else "values"),
      "channelOrder" -> new FileModel(tensors(manifest)).channelOrder(get(channelOrder), $(preprocessing)),
      "normalization" -> $(preprocessing),
      "height" -> height.toString,
      "width" -> width.toString
    )
  }

  override private[sparkdl] def rowInput(dataset: Dataset[_], manifest: Manifest): RowInput = {
    val context = dataset.sparkSession.sparkContext
    val hadoop = context.broadcast(new SerializableConfiguration(context.hadoopConfiguration))
    FileInput(dataset.schema.fieldIndex($(inputCol)), math.max(4, $(batchSize)), hadoop)
  }

  override private[sparkdl] def outputKind: OutputKind = $(outputMode) match {
    case "vector" => OutputKind.Vector
    case "image" => OutputKind.Image
    case _ => OutputKind.Array
  }

  override private[sparkdl] def numbersPerRow(manifest: Manifest): Long =
    new FileModel(tensors(manifest)).output.size.fold(1L)(_.toLong)

  override private[sparkdl] def outputFields(manifest: Option[Manifest]): Seq[StructField] =
    Seq(outputKind match {
      case OutputKind.Vector =>
        StageColumns.vector(
          $(outputCol),
          manifest.flatMap(found => new FileModel(tensors(found)).output.size))
      case OutputKind.Image => StructField($(outputCol), StageColumns.imageType)
      case _ => StructField($(outputCol), ArrayType(FloatType, containsNull = false))
    })

  override def copy(extra: ParamMap): KerasImageFileTransformer =
    copied(defaultCopy[KerasImageFileTransformer](extra))

  override def toString: String =
    s"KerasImageFileTransformer: uid=$uid${get(modelFile).fold("")(file => s", modelFile=$file")}, " +
      s"outputMode=${$(outputMode)}"
}

object KerasImageFileTransformer extends DefaultParamsReadable[KerasImageFileTransformer] {

  override def read: MLReader[KerasImageFileTransformer] = new StageReader(super.read)

  override def load(path: String): KerasImageFileTransformer = read.load(path)
}
