package org.apache.spark.sql.sparkdl

import org.apache.spark.sql.catalyst.expressions._
import org.apache.spark.sql.catalyst.expressions.aggregate.AggregateExpression
import org.apache.spark.sql.catalyst.plans.logical._
import org.apache.spark.sql.catalyst.rules.Rule

/**
 * Takes calls of models out of operators, into a plan below that gathers rows for them: equal calls run once, and what of a
 * filter needs no model comes before it.
 */
object ExtractModelCalls extends Rule[LogicalPlan] with PredicateHelper {

  override def apply(plan: LogicalPlan): LogicalPlan =
    if (plan.exists(operator => innermost(operator.expressions).nonEmpty)) trimmed(plan, Nil) else plan

  /** Calls and the columns that hold their results. */
  private type Known = Seq[(ModelCall, Attribute)]

  /** Calls whose rows can be gathered before an operator with these expressions, each once. */
  private def innermost(expressions: Seq[Expression]): Seq[ModelCall] = {
    val found = expressions.flatMap(_.collect {
      case call: ModelCall if !call.children.exists(_.exists(isLater)) => call
    })
    found.foldLeft(Seq.empty[ModelCall]) { (kept, call) =>
      if (kept.exists(_.semanticEquals(call))) kept else kept :+ call
    }
  }

  /** Whether a value is only there within the operator, or after another call. */
  private def isLater(expression: Expression): Boolean = expression match {
    case _: ModelCall | _: AggregateExpression | _: WindowExpression | _: Generator |
        _: NamedLambdaVariable =>
      true
    case other => !other.deterministic
  }

  /** The plan without calls, with its own columns alone. */
  private def trimmed(plan: LogicalPlan, above: Seq[ModelCall]): LogicalPlan = {
    val (changed, _) = rewritten(plan, above)
    if (changed.output.map(_.exprId) == plan.output.map(_.exprId)) changed else Project(plan.output, changed)
  }

  /** The plan without calls; after its own columns may come the results of calls that stand `above` it too. */
  private def rewritten(plan: LogicalPlan, above: Seq[ModelCall]): (LogicalPlan, Known) = plan match {
    case operator: UnaryNode =>
      val (later, before) = operator match {
        case Filter(condition, _) => splitConjunctivePredicates(condition)
            .partition(part => part.exists(_.isInstanceOf[ModelCall]) || !part.deterministic)
        case _ => (Nil, Nil)
      }
      val (child, known) = rewritten(operator.child, above ++ innermost(operator.expressions))
      val sieved = before.reduceOption(And).filter(_ => later.nonEmpty).fold(child)(Filter(_, child))
      val own = operator match {
        case filter: Filter if later.nonEmpty => filter.copy(condition = later.reduce(And), child = sieved)
        case other => other.withNewChildren(Seq(sieved))
      }
      val (extracted, results) = extractedFrom(own, known)
      val shared = results.filter { case (call, _) => above.exists(_.semanticEquals(call)) }
      (extracted, operator) match {
        case (project: Project, _) =>
          val carried = shared.map(_._2).filterNot(column => project.output.exists(_.exprId == column.exprId))
          (project.copy(projectList = project.projectList ++ carried), shared)
        case (_, _: Aggregate) => (extracted, Nil)
        case _ =>
          // What passes its child's columns on now has the results among them.
          val wanted = operator.output ++ shared.map(_._2)
          val there = wanted.filter(column => extracted.output.exists(_.exprId == column.exprId))
          val kept = shared.filter { case (_, column) => there.exists(_.exprId == column.exprId) }
          if (extracted.output.map(_.exprId) == there.map(_.exprId)) (extracted, kept)
          else (Project(there, extracted), kept)
      }
    case other => (other.mapChildren(trimmed(_, Nil)), Nil)
  }

  /** An operator whose calls are columns of its child, which has those that are `known` already. */
  private def extractedFrom(operator: LogicalPlan, known: Known): (LogicalPlan, Known) = {
    def replaced(plan: LogicalPlan, results: Known) = plan.transformExpressions {
      case call: ModelCall if results.exists(_._1.semanticEquals(call)) =>
        results.find(_._1.semanticEquals(call)).map(_._2).getOrElse(call)
    }
    val changed = replaced(operator, known)
    val calls = innermost(changed.expressions)
    if (calls.isEmpty) (changed, known)
    else {
      val (below, results) = calls.foldLeft((changed.children.head, known)) { case ((plan, results), call) =>
        val (appended, column) = withResult(plan, call)
        (appended, results :+ (call -> column))
      }
      extractedFrom(changed.withNewChildren(Seq(below)), results)
    }
  }

  /** A plan with one column more, the result of a call, and that column. */
  private def withResult(plan: LogicalPlan, call: ModelCall): (LogicalPlan, Attribute) = {
    val arguments = call.arguments.getOrElse(Nil).map {
      case column: Attribute => column
      case other => Alias(other, "argument")()
    }
    val more = arguments.collect { case alias: Alias => alias }
    val below = if (more.isEmpty) plan else Project(plan.output ++ more, plan)
    val places = arguments.map(argument => below.output.indexWhere(_.exprId == argument.exprId))
    val kinds = places.map(below.output(_).dataType)
    val appended =
      InternalRows.appended(below, places, call.function.rows(kinds).get, call.function.outputs) {
        outputs => Alias(call.result(outputs), call.name)()
      }
    (appended, appended.output.last)
  }
}
