package sparkdl.engine

import java.util.concurrent.ConcurrentHashMap

import org.apache.spark.SPARK_VERSION
import org.slf4j.LoggerFactory

/** A Spark with other insides than the one this was built for: what then goes on in another way is told once. */
object OtherSpark {
  private val told = ConcurrentHashMap.newKeySet[String]()
  private val log = LoggerFactory.getLogger(getClass)

  /** The value of `best`, or where Spark lacks what it needs that of `other`, with one warning that says what is then so. */
  def orElse[A](what: String)(best: => A)(other: => A): A =
    try best
    catch {
      case missing: LinkageError =>
        if (told.add(what))
          log.warn(
            "{}, since Spark {} has other insides than 4.1: {}",
            what,
            SPARK_VERSION,
            missing.toString)
        other
    }
}
