package org.apache.spark.sql.sparkdl

import org.apache.spark.sql.catalyst.expressions._
import org.apache.spark.sql.catalyst.expressions.aggregate.AggregateExpression
import org.apache.spark.sql.catalyst.plans.Inner
import org.apache.spark.sql.catalyst.plans.logical._
import org.apache.spark.sql.catalyst.rules.Rule

import _root_.sparkdl.engine.OtherSpark

/**
 * Takes calls out of operators, into a plan below that gathers rows for them: equal calls run once, calls that can be computed
 * together are one run, and what of a filter needs no call comes before it.
 */
object ExtractBatchCalls extends Rule[LogicalPlan] with PredicateHelper {

  override def apply(plan: LogicalPlan): LogicalPlan =
    if (plan.exists(_.expressions.exists(hasCall)))
      OtherSpark.orElse(SessionFunctions.rowByRow)(trimmed(plan, Nil))(plan)
    else plan

  /** Calls and the columns that hold their results. */
  private type Known = Seq[(BatchCall, Attribute)]

  private def hasCall(expression: Expression): Boolean = expression.exists(_.isInstanceOf[BatchCall])

  /** Calls whose rows can be gathered before an operator with these expressions, each once. */
  private def innermost(expressions: Seq[Expression]): Seq[BatchCall] =
    distinct(expressions.flatMap(_.collect {
      case call: BatchCall if !call.children.exists(_.exists(isLater)) => call
    }))

  private def distinct(calls: Seq[BatchCall]): Seq[BatchCall] =
    calls.foldLeft(Seq.empty[BatchCall]) { (kept, call) =>
      if (kept.exists(_.semanticEquals(call))) kept else kept :+ call
    }

  /** Whether a value is only there within the operator, or after another call. */
  private def isLater(expression: Expression): Boolean = expression match {
    case _: BatchCall | _: AggregateExpression | _: WindowExpression | _: Generator |
        _: NamedLambdaVariable =>
      true
    case other => !other.deterministic
  }

  /** The plan without calls, with its own columns alone. */
  private def trimmed(plan: LogicalPlan, above: Seq[BatchCall]): LogicalPlan =
    withColumns(rewritten(plan, above)._1, plan.output)

  private def withColumns(plan: LogicalPlan, columns: Seq[Attribute]): LogicalPlan =
    if (plan.output.map(_.exprId) == columns.map(_.exprId)) plan else Project(columns, plan)

  /** The plan without calls; after its own columns may come the results of calls that stand `above` it too. */
  private def rewritten(plan: LogicalPlan, above: Seq[BatchCall]): (LogicalPlan, Known) = plan match {
    case aggregate: Aggregate if aggregate.aggregateExpressions.exists(hasCallOnGroup(aggregate)) =>
      rewritten(afterwards(aggregate), above)
    case aggregate: Aggregate =>
      val (child, known) = rewritten(aggregate.child, innermost(aggregate.expressions))
      (extractedFrom(aggregate.withNewChildren(Seq(child)), known, Nil)._1, Nil)
    case join: Join if join.condition.exists(hasCall) => (joined(join), Nil)
    case project: Project =>
      val (child, known) = rewritten(project.child, above ++ innermost(project.expressions))
      extractedFrom(project.copy(child = child), known, above) match {
        case (extracted: Project, results) =>
          val shared = ofBoth(results, above)
          val carried = shared.map(_._2).filterNot(column => project.output.exists(_.exprId == column.exprId))
          (extracted.copy(projectList = extracted.projectList ++ carried), shared)
        case (extracted, _) => (extracted, Nil)
      }
    case operator: UnaryNode =>
      val (child, known) = rewritten(operator.child, above ++ innermost(operator.expressions))
      val (extracted, results) = extractedFrom(sieved(operator, child), known, above)
      // What passes its child's columns on now has the results among them.
      val shared = ofBoth(results, above)
      val wanted = operator.output ++ shared.map(_._2)
      val there = wanted.filter(column => extracted.output.exists(_.exprId == column.exprId))
      (
        withColumns(extracted, there),
        shared.filter { case (_, column) => there.exists(_.exprId == column.exprId) })
    case other => (other.mapChildren(trimmed(_, Nil)), Nil)
  }

  private def ofBoth(results: Known, above: Seq[BatchCall]): Known =
    results.filter { case (call, _) => above.exists(_.semanticEquals(call)) }

  /** An operator over a new child; what of a filter needs no call is a filter of its own before it. */
  private def sieved(operator: UnaryNode, child: LogicalPlan): LogicalPlan = operator match {
    case filter: Filter =>
      val (later, before) = splitConjunctivePredicates(filter.condition)
        .partition(part => hasCall(part) || !part.deterministic)
      if (later.isEmpty) filter.copy(child = child)
      else filter.copy(
        condition = later.reduce(And),
        child = before.reduceOption(And).fold(child)(Filter(_, child)))
    case other => other.withNewChildren(Seq(child))
  }

  /** An operator whose calls are columns of its child, which has those that are `known` already. */
  private def extractedFrom(
      operator: LogicalPlan,
      known: Known,
      above: Seq[BatchCall]): (LogicalPlan, Known) = {
    val changed = replaced(operator, known)
    val calls = innermost(changed.expressions)
    if (calls.isEmpty) (changed, known)
    else {
      val child = changed.children.head
      // Calls further up that cost little more where these are computed.
      val alike = above.filter { call =>
        !known.exists(_._1.semanticEquals(call)) && call.references.subsetOf(child.outputSet) &&
        calls.exists(_.isAlike(call))
      }
      val (below, results) = withResults(child, distinct(calls ++ alike))
      extractedFrom(changed.withNewChildren(Seq(below)), known ++ results, above)
    }
  }

  private def replaced(plan: LogicalPlan, results: Known): LogicalPlan = plan.transformExpressions {
    case call: BatchCall if results.exists(_._1.semanticEquals(call)) =>
      results.find(_._1.semanticEquals(call)).map(_._2).getOrElse(call)
  }

  /** Whether a call is of what a group gives: outside of aggregate functions and of what is grouped by. */
  private def hasCallOnGroup(aggregate: Aggregate)(expression: Expression): Boolean = expression match {
    case _: BatchCall => !aggregate.groupingExpressions.exists(_.semanticEquals(expression))
    case _: AggregateExpression => false
    case other => !aggregate.groupingExpressions.exists(_.semanticEquals(other)) &&
      other.children.exists(hasCallOnGroup(aggregate))
  }

  /** The same with calls on what groups give after the aggregate. */
  private def afterwards(aggregate: Aggregate): LogicalPlan = {
    val columns = Seq.newBuilder[NamedExpression]
    val afterwards = aggregate.aggregateExpressions.map { expression =>
      if (hasCallOnGroup(aggregate)(expression)) {
        expression.transformDown {
          case part
              if part.isInstanceOf[AggregateExpression] ||
                aggregate.groupingExpressions.exists(_.semanticEquals(part)) =>
            val column = Alias(part, "group")()
            columns += column
            column.toAttribute
        }.asInstanceOf[NamedExpression]
      } else {
        columns += expression
        expression.toAttribute
      }
    }
    Project(afterwards, aggregate.copy(aggregateExpressions = columns.result()))
  }

  /** A join without calls in its condition, but those on columns of both sides where those cannot come after it. */
  private def joined(join: Join): LogicalPlan = {
    val conditions = join.condition.toSeq.flatMap(splitConjunctivePredicates)
    def isOfBoth(part: Expression) = part.exists {
      case call: BatchCall =>
        !call.references.subsetOf(join.left.outputSet) && !call.references.subsetOf(join.right.outputSet)
      case _ => false
    }
    val (after, within) =
      if (join.joinType == Inner) conditions.partition(isOfBoth) else (Nil, conditions)
    val (left, right) = (trimmed(join.left, Nil), trimmed(join.right, Nil))
    val one = sided(join.copy(left = left, right = right, condition = within.reduceOption(And)))
    val plan =
      after.reduceOption(And).fold[LogicalPlan](one)(condition => trimmed(Filter(condition, one), Nil))
    withColumns(plan, join.output)
  }

  /** A join whose sides have the results of calls on their columns. */
  private def sided(join: Join): Join = {
    val calls = innermost(join.condition.toSeq)
    val ofLeft = calls.filter(_.references.subsetOf(join.left.outputSet))
    val ofRight = calls.diff(ofLeft).filter(_.references.subsetOf(join.right.outputSet))
    if (ofLeft.isEmpty && ofRight.isEmpty) join
    else {
      val (left, leftResults) = withResults(join.left, ofLeft)
      val (right, rightResults) = withResults(join.right, ofRight)
      replaced(join.copy(left = left, right = right), leftResults ++ rightResults) match {
        case changed: Join => sided(changed)
        case _ => join
      }
    }
  }

  /** A plan with the results of these calls as columns more, and those columns. */
  private def withResults(plan: LogicalPlan, calls: Seq[BatchCall]): (LogicalPlan, Known) = {
    val runs = calls.foldLeft(Seq.empty[Seq[BatchCall]]) { (runs, call) =>
      runs.indexWhere(_.head.isAlike(call)) match {
        case -1 => runs :+ Seq(call)
        case index => runs.updated(index, runs(index) :+ call)
      }
    }
    runs.foldLeft((plan, Seq.empty[(BatchCall, Attribute)])) { case ((below, known), run) =>
      val (appended, columns) = withRun(below, run)
      (appended, known ++ run.zip(columns))
    }
  }

  /** A plan with the results of calls that are one run. */
  private def withRun(plan: LogicalPlan, calls: Seq[BatchCall]): (LogicalPlan, Seq[Attribute]) = {
    val arguments = calls.head.arguments.getOrElse(Nil).map {
      case column: Attribute => column
      case other => Alias(other, "argument")()
    }
    val more = arguments.collect { case alias: Alias => alias }
    val below = if (more.isEmpty) plan else Project(plan.output ++ more, plan)
    val places = arguments.map(argument => below.output.indexWhere(_.exprId == argument.exprId))
    val kinds = places.map(below.output(_).dataType)
    val function = calls.head.function.joined(calls.tail.map(_.function))
    val appended =
      InternalRows.appended(below, places, function.rows(kinds).get, function.outputs) { outputs =>
        val starts = calls.scanLeft(0)(_ + _.function.outputs.size)
        calls.zip(starts).map { case (call, start) =>
          Alias(call.result(outputs.slice(start, start + call.function.outputs.size)), call.name)()
        }
      }
    (appended, appended.output.takeRight(calls.size))
  }
}
