package sparkdl.params

import org.apache.spark.ml.param.{BooleanParam, LongParam, Params}

/** How encoded pictures are decoded. */
trait HasPictureOptions extends Params {

  /**
   * Most pixels (width times height) a picture may have; larger ones are invalid, told from the header alone.
   * @group param
   */
  final val maxPixels: LongParam = new LongParam(
    this,
    "maxPixels",
    "most pixels (width times height) a picture may have; larger ones are invalid (at least 1)",
    (value: Long) => Choice.atLeast("maxPixels", 1L).apply(value)
  )

  /**
   * Whether the orientation in a picture's EXIF data is applied. Spark's image source and Keras do not.
   * @group param
   */
  final val applyExifOrientation: BooleanParam = new BooleanParam(
    this,
    "applyExifOrientation",
    "whether the orientation in a picture's EXIF data is applied"
  )

  /**
   * Whether JPEG pictures much larger than the model's input may be decoded at 1/2, 1/4 or 1/8 of their size: faster, a
   * little less exact.
   * @group param
   */
  final val fastDecode: BooleanParam = new BooleanParam(
    this,
    "fastDecode",
    "whether JPEG pictures much larger than needed may be decoded at reduced size: faster, a little less exact"
  )

  setDefault(
    maxPixels -> HasPictureOptions.defaultMaxPixels,
    applyExifOrientation -> false,
    fastDecode -> false
  )

  /** @group getParam */
  final def getMaxPixels: Long = $(maxPixels)

  /** @group getParam */
  final def getApplyExifOrientation: Boolean = $(applyExifOrientation)

  /** @group getParam */
  final def getFastDecode: Boolean = $(fastDecode)
}

private[sparkdl] object HasPictureOptions {

  /** The limit from which Pillow warns of a decompression bomb. */
  val defaultMaxPixels: Long = 89478485L
}
