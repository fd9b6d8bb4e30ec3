package sparkdl.params

import org.apache.spark.ml.param.{BooleanParam, IntParam, Params, StringArrayParam}

/** How scores become classes. */
trait HasDecodePredictions extends Params {

  /**
   * Whether the output is the best classes by name, rather than the scores of all classes.
   * @group param
   */
  final val decodePredictions: BooleanParam = new BooleanParam(
    this,
    "decodePredictions",
    "whether the output is the topK best classes with their names, rather than the scores of all classes"
  )

  /**
   * How many classes are named, best first. Read when decodePredictions is true.
   * @group param
   */
  final val topK: IntParam = new IntParam(
    this,
    "topK",
    "how many classes are named, best first (at least 1); read when decodePredictions is true",
    Choice.atLeast("topK", 1)
  )

  /**
   * Names of the classes, one per score. Empty: the model's own.
   * @group param
   */
  final val labels: StringArrayParam = new StringArrayParam(
    this,
    "labels",
    "names of the classes, one per score of the model; empty: the model's own"
  )

  setDefault(decodePredictions -> false, topK -> 5, labels -> Array.empty[String])

  /** @group getParam */
  final def getDecodePredictions: Boolean = $(decodePredictions)

  /** @group getParam */
  final def getTopK: Int = $(topK)

  /** @group getParam */
  final def getLabels: Array[String] = $(labels)
}
