package org.apache.spark.sql.sparkdl

import scala.util.{Failure, Try}

import org.apache.spark.sql.{classic, SparkSession, SparkSessionExtensions}
import org.apache.spark.sql.catalyst.FunctionIdentifier
import org.apache.spark.sql.catalyst.expressions.{Expression, ExpressionInfo}
import org.apache.spark.sql.catalyst.util.{ArrayData, MapData}
import org.apache.spark.sql.types._
import org.apache.spark.unsafe.types.UTF8String

import _root_.sparkdl.engine.{OtherSpark, RowExtension}
import _root_.sparkdl.sql.BatchFunction

/** Functions of sessions. */
object SessionFunctions {

  /** Registers a function, in the place of another of this name. */
  def register(spark: SparkSession, name: String, function: BatchFunction, usage: String): Unit = {
    val session = spark.asInstanceOf[classic.SparkSession]
    val builder = (arguments: Seq[Expression]) => BatchCall(arguments, function, name)
    val functions = session.sessionState.functionRegistry
    // From Spark 4.3 on identifiers are qualified here, in a way that 4.1 does not know.
    try functions.registerFunction(FunctionIdentifier(name), info(name, usage, "", "scala_udf"), builder)
    catch { case _: AssertionError => functions.createOrReplaceTempFunction(name, builder, "scala_udf") }
    gathered {
      if (!session.experimental.extraOptimizations.contains(ExtractBatchCalls))
        session.experimental.extraOptimizations :+= ExtractBatchCalls
    }
  }

  private[sparkdl] val rowByRow = "Functions of models run row by row"

  private def gathered(add: => Unit): Unit = OtherSpark.orElse(rowByRow)(add)(())

  /**
   * A function that is there in all sessions of these extensions.
   *
   * @param model whether its first argument names a model
   * @param columns how many arguments then are columns, the rest literals; nothing: all, before a map of options
   * @param of what it is by its literals, the model among them
   */
  final case class Named(
      name: String,
      usage: String,
      example: String,
      model: Boolean,
      columns: Option[Int],
      of: Seq[Any] => BatchFunction)

  /** Adds functions to the sessions of these extensions. */
  def inject(extensions: SparkSessionExtensions, functions: Seq[Named]): Unit = {
    functions.foreach { function =>
      val about = info(
        function.name,
        function.usage,
        s"\n    Examples:\n      > SELECT ${function.example};\n       …\n  ",
        "scala_udf")
      extensions.injectFunction((FunctionIdentifier(function.name), about, call(function)))
    }
    // After filters have found their place.
    gathered(extensions.injectPreCBORule(_ => ExtractBatchCalls))
  }

  private def call(function: Named)(arguments: Seq[Expression]): Expression = {
    val (model, others) = arguments.splitAt(if (function.model) 1 else 0)
    val isOption = others.lastOption.exists(last => value(last).exists(_.isInstanceOf[Map[_, _]]))
    val (columns, literals) =
      others.splitAt(function.columns.getOrElse(others.size - (if (isOption) 1 else 0)))
    val values = (model ++ literals).map(value)
    val found =
      if (function.model && !values.headOption.flatten.exists(_.isInstanceOf[String]))
        Refused(
          "its first argument, the model, must be a literal: a name, or the path of a file",
          columns.size)
      else if (values.exists(_.isEmpty))
        Refused("what comes after its columns must be literals", columns.size)
      else
        try function.of(values.flatten)
        catch {
          case refused: IllegalArgumentException => Refused(refused.getMessage.stripSuffix("."), columns.size)
        }
    BatchCall(columns, found, function.name)
  }

  /** The value of a literal, of the types that options have; nothing where it is none. */
  private def value(expression: Expression): Option[Any] =
    if (!expression.resolved || !expression.foldable) None
    else
      (expression.eval(), expression.dataType) match {
        case (text: UTF8String, _) => Some(text.toString)
        case (number: Int, IntegerType) => Some(number)
        case (map: MapData, MapType(StringType, StringType, _)) =>
          def texts(array: ArrayData) = array.toSeq[UTF8String](StringType).map(text => String.valueOf(text))
          Some(texts(map.keyArray()).zip(texts(map.valueArray())).toMap)
        case _ => None
      }

  private def info(name: String, usage: String, examples: String, source: String): ExpressionInfo =
    new ExpressionInfo(
      classOf[BatchCall].getName,
      null,
      name,
      usage,
      "",
      examples,
      "",
      "",
      "",
      "",
      source)

  /** A function that cannot be, and why. */
  private final case class Refused(why: String, columns: Int) extends BatchFunction {
    override def inputs: Seq[String] = Seq.fill(columns)("")
    override def outputs: Seq[StructField] = Seq(StructField("", StringType))
    override def rows(kinds: Seq[DataType]): Try[RowExtension] = Failure(new IllegalArgumentException(why))
  }
}
