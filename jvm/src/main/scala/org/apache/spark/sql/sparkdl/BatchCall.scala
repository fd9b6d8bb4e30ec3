package org.apache.spark.sql.sparkdl

import scala.util.{Failure, Success}

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.analysis.TypeCheckResult
import org.apache.spark.sql.catalyst.analysis.TypeCheckResult.{TypeCheckFailure, TypeCheckSuccess}
import org.apache.spark.sql.catalyst.expressions._
import org.apache.spark.sql.catalyst.expressions.codegen.CodegenFallback
import org.apache.spark.sql.types._

import _root_.sparkdl.sql.BatchFunction

/**
 * A call of a function that is computed for many rows at a time. `ExtractBatchCalls` gathers rows for it; where it stands
 * elsewhere it runs row by row, with the same result.
 */
case class BatchCall(children: Seq[Expression], function: BatchFunction, name: String)
    extends Expression
    with CodegenFallback {

  override def prettyName: String = name

  override def toString: String = children.mkString(s"$name(", ", ", ")")

  override def nullable: Boolean = true

  override def foldable: Boolean = false

  override def dataType: DataType = function.outputs match {
    case Seq(one) => one.dataType
    case several => StructType(several.map(_.copy(nullable = true)))
  }

  override def checkInputDataTypes(): TypeCheckResult =
    if (exists(_.isInstanceOf[NamedLambdaVariable]))
      refused("it does not run inside of a lambda function: explode the array and call it on the rows")
    else arguments match {
      case None =>
        val wanted = function.inputs.mkString(", ")
        refused(
          s"it takes ${function.inputs.size} columns ($wanted), or one struct with fields of these names, but was given " +
            s"${children.size}")
      case Some(columns) =>
        function.rows(columns.map(_.dataType)) match {
          case Success(_) => TypeCheckSuccess
          case Failure(why) => refused(why.getMessage.stripSuffix("."))
        }
    }

  private def refused(why: String): TypeCheckResult = TypeCheckFailure(why)

  /** A column for each input; decimals, which SQL's literals are, as doubles. */
  private[sparkdl] def arguments: Option[Seq[Expression]] = columns.map(_.map { column =>
    val kind = BatchCall.withoutDecimals(column.dataType)
    if (kind == column.dataType) column else Cast(column, kind)
  })

  private def columns: Option[Seq[Expression]] = children match {
    case columns if columns.size == function.inputs.size => Some(columns)
    case Seq(struct) => struct.dataType match {
        case StructType(fields) if function.inputs.forall(name => fields.exists(_.name == name)) =>
          Some(function.inputs.map(name =>
            GetStructField(struct, fields.indexWhere(_.name == name), Some(name))))
        case _ => None
      }
    case _ => None
  }

  /** Whether this call and another can be computed together: on the same columns, by functions that have a run in common. */
  private[sparkdl] def isAlike(that: BatchCall): Boolean =
    function.run.nonEmpty && function.run == that.function.run && children.size == that.children.size &&
      children.zip(that.children).forall { case (own, other) => own.semanticEquals(other) }

  /** The result, from the outputs. */
  private[sparkdl] def result(outputs: Seq[Expression]): Expression = outputs match {
    case Seq(one) => one
    case several =>
      val struct = CreateNamedStruct(function.outputs.zip(several).flatMap { case (field, output) =>
        Seq(Literal(field.name), output)
      })
      If(IsNull(several.head), Literal(null, struct.dataType), struct)
  }

  @transient private lazy val single = {
    val evaluated = arguments.getOrElse(Nil)
    val kinds = evaluated.map(_.dataType)
    (evaluated, new RowByRow(function.rows(kinds).get, kinds, function.outputs.map(_.dataType)))
  }

  override def eval(input: InternalRow): Any = {
    val (arguments, one) = single
    val outputs = one(new GenericInternalRow(arguments.map(_.eval(input)).toArray[Any]))
    function.outputs match {
      case Seq(field) => outputs.get(0, field.dataType)
      case _ => if (outputs.isNullAt(0)) null else outputs
    }
  }

  override protected def withNewChildrenInternal(newChildren: IndexedSeq[Expression]): BatchCall =
    copy(children = newChildren)
}

private object BatchCall {

  /** The type with doubles for decimals, in arrays too. */
  private def withoutDecimals(kind: DataType): DataType = kind match {
    case _: DecimalType => DoubleType
    case ArrayType(element, containsNull) => ArrayType(withoutDecimals(element), containsNull)
    case other => other
  }
}
