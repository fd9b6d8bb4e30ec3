package sparkdl.params

import org.apache.spark.ml.param.{BooleanParam, Params}

/** Whether the graph may reach beyond itself. */
trait HasAllowUnsafeOps extends Params {

  /**
   * Whether the graph may run operations that reach beyond it: only where you trust it as a program. The graph must have
   * been read with `allowUnsafeOps` too.
   * @group param
   */
  final val allowUnsafeOps: BooleanParam = new BooleanParam(
    this,
    "allowUnsafeOps",
    "whether the graph may run operations that reach beyond it: files, processes, Python, network, queues"
  )

  setDefault(allowUnsafeOps, false)

  /** @group getParam */
  final def getAllowUnsafeOps: Boolean = $(allowUnsafeOps)
}
