package sparkdl

import sparkdl.engine.{TensorManifest, TensorSpec}
import sparkdl.ffi.ErrorKind

/** What a model that takes pictures wants of them, by its manifest. */
private[sparkdl] final class FileModel(model: TensorManifest) {

  private val name = model.name

  /** Refuses a model that is not of one picture in and one output. */
  def check(): Unit = {
    Seq("inputs" -> model.inputs, "outputs" -> model.outputs).foreach { case (what, specs) =>
      if (specs.size != 1)
        refuse(
          s"The model $name has ${specs.size} $what (${specs.map(_.name).mkString(", ")}) but KerasImageFileTransformer " +
            "takes models of one: use KerasTransformer."
        )
    }
    val isPicture = input.dtype == "float32" && input.shape.size == 3 && input.shape.last.exists(Set(1, 3))
    if (!isPicture)
      refuse(
        s"The input ${input.name} of the model $name has the shape ${input.shownShape} and the type ${input.dtype}, but " +
          "pictures need [height, width, 1 or 3] of float32: use KerasTransformer."
      )
    if (output.dtype != "float32")
      refuse(
        s"The output ${output.name} of the model $name is of type ${output.dtype}, but KerasImageFileTransformer gives " +
          "float32: use KerasTransformer."
      )
  }

  /** Refuses a size that the model does not take, or none where it leaves its own open. */
  def checkSize(size: Option[(Int, Int)]): Unit = {
    val own = input.shape.take(2)
    size match {
      case Some((height, width)) if own.zip(Seq(height, width)).exists { case (a, b) => a.exists(_ != b) } =>
        refuse(
          s"The model $name takes pictures of ${own.map(_.fold("any")(_.toString)).mkString(" x ")}, but inputSize is " +
            s"$height x $width: leave inputSize unset."
        )
      case None if own.exists(_.isEmpty) =>
        refuse(s"The model $name takes pictures of any size: set inputSize.")
      case _ => ()
    }
  }

  /** The order of channels for the core: as the user set it, else what the model and preprocessing suggest. */
  def channelOrder(set: Option[String], preprocessing: String): String = {
    val grey = channels == 1
    val takes = if (grey) "1 channel" else s"$channels channels"
    set.filter(order => (order == "L") != grey).foreach { order =>
      refuse(
        s"The model $name takes $takes, but channelOrder is $order: leave channelOrder unset.")
    }
    if (grey && Set("caffe", "torch").contains(preprocessing))
      refuse(
        s"The model $name takes 1 channel, but preprocessing $preprocessing needs 3: set preprocessing to \"none\" or " +
          "\"tf\"."
      )
    set.getOrElse(if (grey) "L" else if (preprocessing == "caffe") "BGR" else "RGB")
  }

  /** Refuses an output that is no picture, where a picture is wanted, or whose size is not known. */
  def checkOutput(mode: String): Unit = {
    val shown = s"The output ${output.name} of the model $name has the shape ${output.shownShape}"
    val isPicture = output.shape.size == 3 && output.shape.last.exists(Set(1, 3, 4))
    if (mode == "image" && !isPicture)
      refuse(
        s"$shown, but outputMode image needs [height, width, 1, 3 or 4]: set outputMode to \"vector\" or \"array\"."
      )
    if (output.size.isEmpty)
      refuse(s"$shown, whose size is not known: set inputSize, or use KerasTransformer.")
  }

  /** The only output. */
  def output: TensorSpec = model.outputs.head

  private def input = model.inputs.head

  private def channels: Int = input.shape.last.getOrElse(0)

  private def refuse(message: String): Nothing = throw ErrorKind.InvalidArgument.exception(message)
}
