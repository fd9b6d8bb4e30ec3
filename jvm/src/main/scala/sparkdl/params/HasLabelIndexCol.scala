package sparkdl.params

import org.apache.spark.ml.param.{Param, Params}

/** The column of labels as numbers. */
trait HasLabelIndexCol extends Params {

  /**
   * Column for the label as the index of its class (double), where labelCol does not hold that itself; a label that was not
   * trained on gets the number of classes.
   * @group param
   */
  final val labelIndexCol: Param[String] = new Param[String](
    this,
    "labelIndexCol",
    "column for the label as the index of its class (double), where labelCol does not hold that itself; a label that " +
      "was not trained on gets the number of classes",
    Choice.notEmpty("labelIndexCol")
  )

  setDefault(labelIndexCol, "labelIndex")

  /** @group getParam */
  final def getLabelIndexCol: String = $(labelIndexCol)
}
