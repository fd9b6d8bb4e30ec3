package sparkdl.params

import org.apache.spark.ml.param.{DoubleParam, IntParam, Param, Params, StringArrayParam}

/** How a fitted model's scores become predictions, and what became of its training. */
trait HasPredictions extends Params {

  /**
   * What predictionCol holds: "class", "binary", "value", "none" or "failed".
   * @group expertParam
   */
  final val predictionKind: Param[String] = new Param[String](
    this,
    "predictionKind",
    "what predictionCol holds: \"class\" (the index of the best score), \"binary\" (1 where the only score is above " +
      "threshold), \"value\" (the only score), \"none\" (there is no such column), or \"failed\"",
    Choice.of("predictionKind", Array("class", "binary", "value", "none", "failed"))
  )

  /**
   * Score above which a binary prediction is 1.
   * @group param
   */
  final val threshold: DoubleParam =
    new DoubleParam(this, "threshold", "score above which a binary prediction is 1")

  /**
   * What labelCol held in training: "number", "vector" or "text".
   * @group expertParam
   */
  final val labelKind: Param[String] = new Param[String](
    this,
    "labelKind",
    "what labelCol held in training: \"number\" (an index or a value), \"vector\" (one number for each output), or " +
      "\"text\" (labels that were indexed)",
    Choice.of("labelKind", Array("number", "vector", "text"))
  )

  /**
   * Labels by index; empty where they are numbers.
   * @group param
   */
  final val labels: StringArrayParam =
    new StringArrayParam(this, "labels", "labels by index; empty: they are numbers")

  /**
   * Numbers that the model gives for a row.
   * @group expertParam
   */
  final val classes: IntParam = new IntParam(
    this,
    "classes",
    "numbers that the model gives for a row",
    Choice.atLeast("classes", 0))

  /**
   * Loss and metrics of each epoch, as JSON.
   * @group expertParam
   */
  final val trainingHistory: Param[String] =
    new Param[String](this, "trainingHistory", "loss and metrics of each epoch, as JSON")

  /**
   * Why the training failed; empty where it did not.
   * @group expertParam
   */
  final val failure: Param[String] =
    new Param[String](this, "failure", "why the training failed; empty: it did not")

  setDefault(
    predictionKind -> "none",
    threshold -> 0.5,
    labelKind -> "number",
    labels -> Array.empty[String],
    classes -> 0,
    trainingHistory -> "[]",
    failure -> "")

  /** @group expertGetParam */
  final def getPredictionKind: String = $(predictionKind)

  /** @group getParam */
  final def getThreshold: Double = $(threshold)

  /** @group expertGetParam */
  final def getLabelKind: String = $(labelKind)

  /** @group getParam */
  final def getLabels: Array[String] = $(labels)

  /** @group expertGetParam */
  final def getClasses: Int = $(classes)

  /** @group expertGetParam */
  final def getTrainingHistory: String = $(trainingHistory)

  /** @group expertGetParam */
  final def getFailure: String = $(failure)
}
