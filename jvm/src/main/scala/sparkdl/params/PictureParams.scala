package sparkdl.params

/** How pictures become the model's input, for every stage that takes pictures. */
trait PictureParams extends HasScaleHint with HasResizeMode with HasPictureOptions {

  /** @group setParam */
  def setScaleHint(value: String): this.type = set(scaleHint, value)

  /** @group setParam */
  def setResizeMode(value: String): this.type = set(resizeMode, value)

  /** @group setParam */
  def setMaxPixels(value: Long): this.type = set(maxPixels, value)

  /** @group setParam */
  def setApplyExifOrientation(value: Boolean): this.type = set(applyExifOrientation, value)

  /** @group setParam */
  def setFastDecode(value: Boolean): this.type = set(fastDecode, value)

  private[sparkdl] def pictureOptions: Map[String, String] = Map(
    "scaleHint" -> $(scaleHint),
    "resizeMode" -> $(resizeMode),
    "maxPixels" -> $(maxPixels).toString,
    "applyExifOrientation" -> $(applyExifOrientation).toString,
    "fastDecode" -> $(fastDecode).toString
  )
}
