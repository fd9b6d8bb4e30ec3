package org.apache.spark.sql.sparkdl

import org.apache.spark.sql.{classic, SparkSession}
import org.apache.spark.sql.catalyst.expressions.Expression

/** Functions of one session. */
object SessionFunctions {

  /** Registers a model as a function, in the place of another of this name. */
  def register(spark: SparkSession, name: String, function: ModelFunction): Unit = {
    val session = spark.asInstanceOf[classic.SparkSession]
    session.sessionState.functionRegistry.createOrReplaceTempFunction(
      name,
      (arguments: Seq[Expression]) => ModelCall(arguments, function, name),
      "scala_udf")
    if (!session.experimental.extraOptimizations.contains(ExtractModelCalls))
      session.experimental.extraOptimizations :+= ExtractModelCalls
  }
}
