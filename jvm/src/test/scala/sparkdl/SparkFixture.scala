package sparkdl

import java.nio.file.{Files, Path, Paths}
import java.util.concurrent.{ConcurrentLinkedQueue, Semaphore, TimeUnit}

import scala.jdk.CollectionConverters._

import org.apache.spark.scheduler.{SparkListener, SparkListenerJobStart}
import org.apache.spark.sql.SparkSession
import org.scalatest.funsuite.AnyFunSuite

/** A session for all suites of this JVM, with a cache folder of its own. */
abstract class SparkFixture extends AnyFunSuite {

  protected val spark: SparkSession = SparkFixture.session

  protected val tiny: String = SparkFixture.fixture("bundles/tiny.sparkdl").toString

  /** A new folder, removed when the JVM ends. */
  protected def newFolder(): Path = SparkFixture.newFolder()

  /** The result of an action, and the number of jobs that Spark started meanwhile. */
  protected def countingJobs[T](action: => T): (T, Int) = {
    val started = new ConcurrentLinkedQueue[String]()
    val marked = new Semaphore(0)
    val listener = new SparkListener {
      override def onJobStart(job: SparkListenerJobStart): Unit = {
        val name = Option(job.properties).map(_.getProperty("spark.job.description")).orNull
        if (name == "marker") marked.release() else started.add(String.valueOf(name))
      }
    }
    // Events come in order, but late: once this job is seen, so are all before it.
    def settle(): Unit = {
      spark.sparkContext.setJobDescription("marker")
      spark.sparkContext.parallelize(Seq(1)).count()
      spark.sparkContext.setJobDescription(null)
      assert(marked.tryAcquire(60, TimeUnit.SECONDS), "Spark did not report the marker job")
    }
    spark.sparkContext.addSparkListener(listener)
    try {
      settle()
      started.clear()
      val result = action
      settle()
      (result, started.size)
    } finally spark.sparkContext.removeSparkListener(listener)
  }

  /** The message of the refusal that an action ends in, with no job started. */
  protected def refusal(action: => Any): String = {
    val (error, jobs) = countingJobs(intercept[IllegalArgumentException](action))
    assert(jobs == 0, s"${error.getMessage} came after $jobs jobs")
    error.getMessage
  }
}

object SparkFixture {

  lazy val cache: Path = newFolder()

  lazy val session: SparkSession = SparkSession
    .builder()
    .config("spark.sparkdl.cacheDir", cache.toString)
    .config("spark.ui.enabled", "false")
    .getOrCreate()

  /** A file of tests/fixtures. */
  def fixture(name: String): Path = Paths.get("tests", "fixtures").resolve(name).toAbsolutePath

  def newFolder(): Path = {
    val folder = Files.createTempDirectory("sparkdl-test-")
    sys.addShutdownHook {
      Files.walk(folder).iterator().asScala.toSeq.reverse.foreach(file => Files.deleteIfExists(file))
    }
    folder
  }
}
