package sparkdl.engine

import org.apache.spark.SparkContext
import org.apache.spark.util.LongAccumulator

/** Accumulators that the Spark UI shows with each stage; made on the driver, filled by tasks as they end. */
final class EngineMetrics private (accumulators: Seq[LongAccumulator]) extends Serializable {

  /** Adds what a task's handle has done. */
  def add(metrics: ModelMetrics): Unit =
    accumulators.zip(metrics.productIterator).foreach { case (accumulator, value) =>
      accumulator.add(value.asInstanceOf[Long])
    }

  /** The sums so far. */
  def value: ModelMetrics = ModelMetrics.of(accumulators.map(_.sum))
}

object EngineMetrics {
  private val names = Seq(
    "sparkdl rows",
    "sparkdl invalid rows",
    "sparkdl native calls",
    "sparkdl session runs",
    "sparkdl decode ns",
    "sparkdl run ns"
  )

  /** New accumulators, for one use of a stage. */
  def of(context: SparkContext): EngineMetrics = new EngineMetrics(names.map(context.longAccumulator))
}
