package org.apache.spark.sql.sparkdl

import scala.util.{Failure, Try}

import org.apache.spark.sql.{classic, SparkSession, SparkSessionExtensions}
import org.apache.spark.sql.catalyst.FunctionIdentifier
import org.apache.spark.sql.catalyst.expressions.{Expression, ExpressionInfo}
import org.apache.spark.sql.catalyst.util.{ArrayData, MapData}
import org.apache.spark.sql.types._
import org.apache.spark.unsafe.types.UTF8String

import _root_.sparkdl.engine.RowExtension

/** Functions of sessions. */
object SessionFunctions {

  /** Registers a model as a function, in the place of another of this name. */
  def register(spark: SparkSession, name: String, function: ModelFunction, usage: String): Unit = {
    val session = spark.asInstanceOf[classic.SparkSession]
    session.sessionState.functionRegistry.registerFunction(
      FunctionIdentifier(name),
      info(name, usage, "", "scala_udf"),
      (arguments: Seq[Expression]) => ModelCall(arguments, function, name))
    if (!session.experimental.extraOptimizations.contains(ExtractModelCalls))
      session.experimental.extraOptimizations :+= ExtractModelCalls
  }

  /**
   * A function whose first argument names the model, in all sessions of these extensions.
   *
   * @param columns how many arguments after the model are columns; the rest are literals
   * @param of the function of a model, by the literals
   */
  final case class Named(
      name: String,
      usage: String,
      example: String,
      columns: Int => Int,
      of: (String, Seq[Any]) => ModelFunction)

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
    extensions.injectPreCBORule(_ => ExtractModelCalls)
  }

  private def call(function: Named)(arguments: Seq[Expression]): Expression = {
    val (columns, literals) =
      arguments.drop(1).splitAt(math.min(function.columns(arguments.size - 1), arguments.size - 1))
    val values = literals.map(value)
    val found = (arguments.headOption.flatMap(value), values) match {
      case (Some(model: String), values) if values.forall(_.isDefined) =>
        try function.of(model, values.flatten)
        catch {
          case refused: IllegalArgumentException => Refused(refused.getMessage.stripSuffix("."), columns.size)
        }
      case (Some(_: String), _) =>
        Refused("what comes after its columns must be literals", columns.size)
      case _ =>
        Refused(
          "its first argument, the model, must be a literal: a name, or the path of a file",
          columns.size)
    }
    ModelCall(columns, found, function.name)
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
      classOf[ModelCall].getName,
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
  private final case class Refused(why: String, columns: Int) extends ModelFunction {
    override def inputs: Seq[String] = Seq.fill(columns)("")
    override def outputs: Seq[StructField] = Seq(StructField("", StringType))
    override def rows(kinds: Seq[DataType]): Try[RowExtension] = Failure(new IllegalArgumentException(why))
  }
}
