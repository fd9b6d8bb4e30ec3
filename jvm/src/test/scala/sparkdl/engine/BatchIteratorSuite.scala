package sparkdl.engine

import java.awt.Color
import java.util.concurrent.{CountDownLatch, Executors, TimeUnit}

import scala.concurrent.{Await, ExecutionContext, Future}
import scala.concurrent.duration.DurationInt

import org.apache.spark.SparkException
import org.apache.spark.sql.Row
import org.apache.spark.sql.types.BinaryType

import sparkdl.Pictures

class BatchIteratorSuite extends EngineFixture {
  import BatchIteratorSuite._

  private val good = png(Color.GREEN)
  private val bad = "no picture".getBytes

  /** Runs pictures through the tiny model in one task per partition. */
  private def outputs(
      pictures: Seq[Array[Byte]],
      batchSize: Int,
      partitions: Int = 1,
      metrics: Option[EngineMetrics] = None,
      changes: Seq[(String, String)] = Nil
  ): Seq[(Any, String)] = {
    val opened = options(changes: _*)
    spark.sparkContext
      .parallelize(pictures, partitions)
      .mapPartitions { rows =>
        new BatchIterator(rows.map(input), files, NativeModel.open(opened), batchSize, metrics).map(r =>
          (r.output, r.error))
      }
      .collect()
      .toSeq
  }

  test("good and bad rows come back in order, each bad one with its reason") {
    val metrics = EngineMetrics.of(spark.sparkContext)
    val results = outputs(Seq(good, bad, null, good, good), batchSize = 2, metrics = Some(metrics))
    assert(results.map(_._1 != null) == Seq(true, false, false, true, true))
    assert(results.map(_._2 == null) == Seq(true, false, false, true, true))
    assert(results.filter(_._1 != null).forall(_._1.asInstanceOf[Array[Float]].length == 4))
    val sums = metrics.value
    assert((sums.rows, sums.invalidRows, sums.nativeCalls) == ((5L, 2L, 3L)))
    assertNothingOpen()
  }

  test("the output does not depend on the size of batches or on partitions") {
    val pictures = (0 until 12).map(i => png(new Color(20 * i, 255 - 20 * i, 128)))
    val one = outputs(pictures, batchSize = 1).map(_._1.asInstanceOf[Array[Float]].toSeq)
    val many = outputs(pictures, batchSize = 64, partitions = 3).map(_._1.asInstanceOf[Array[Float]].toSeq)
    assert(one.flatten.zip(many.flatten).forall { case (a, b) => math.abs(a - b) < 1e-5f })
    assert(one.distinct.size == 12)
  }

  test("the best classes come as rows of class, description and probability") {
    val Seq((output, null)) =
      outputs(Seq(good), 8, changes = Seq("task" -> "topK", "topK" -> "3")): @unchecked
    val best = output.asInstanceOf[Seq[Row]]
    assert(best.size == 3)
    assert(best.map(_.getFloat(2)).sliding(2).forall(pair => pair(0) >= pair(1)))
    assert(best.forall(row => row.getString(0).nonEmpty && row.getString(1) != null))
  }

  test("Spark's image struct goes in as well as bytes") {
    val image = Row("file:/green", 30, 40, 3, 16, Array.fill(30 * 40)(Array[Byte](0, -1, 0)).flatten)
    val invalid = Row("file:/none", -1, -1, -1, -1, Array.emptyByteArray)
    val rows = Iterator("a" -> image, "b" -> invalid, "c" -> null).map { case (name, picture) =>
      InputRow(Row(name, picture), Seq(picture))
    }
    val Seq(a, b, c) =
      new BatchIterator(rows, Seq(Pictures.structType), NativeModel.open(options()), 8).toSeq: @unchecked
    assert(a.row.getString(0) == "a" && a.error == null)
    assert(b.output == null && b.error.nonEmpty)
    assert(c.output == null && c.error.nonEmpty)
    val Seq((bytes, _)) = outputs(Seq(png(new Color(0, 255, 0))), 8): @unchecked
    val pairs = a.output.asInstanceOf[Array[Float]].zip(bytes.asInstanceOf[Array[Float]])
    assert(pairs.forall { case (x, y) => math.abs(x - y) < 1e-5f })
    assertNothingOpen()
  }

  test("no row opens no model") {
    val iterator = new BatchIterator(Iterator.empty, files, fail("the model was opened"), 8)
    assert(!iterator.hasNext)
    assert(outputs(Nil, batchSize = 8, partitions = 2).isEmpty)
    assertNothingOpen()
  }

  test("a task that wants only the first rows leaves nothing open") {
    val opened = options()
    val rows = spark.sparkContext.parallelize(Seq.fill(100)(good), 1)
    val first = rows.mapPartitions { rows =>
      new BatchIterator(rows.map(input), files, NativeModel.open(opened), 4).map(_.error)
    }
    assert(first.take(3).toSeq == Seq(null, null, null))
    assertNothingOpen()
  }

  test("a task that fails leaves nothing open") {
    val opened = options()
    val error = intercept[SparkException] {
      spark.sparkContext
        .parallelize(Seq.fill(20)(good), 1)
        .mapPartitions { rows =>
          val results = new BatchIterator(rows.map(input), files, NativeModel.open(opened), 4)
          results.zipWithIndex.map { case (_, i) => if (i == 6) sys.error("a defect elsewhere") else i }
        }
        .count()
    }
    assert(error.getMessage.contains("a defect elsewhere"))
    assertNothingOpen()
  }

  test("a killed task leaves nothing open, and the next job is right") {
    val opened = options()
    implicit val threads: ExecutionContext = ExecutionContext.fromExecutor(Executors.newCachedThreadPool())
    started = new CountDownLatch(1)
    val endless = Future {
      spark.sparkContext.setJobGroup("endless", "killed by the test", interruptOnCancel = false)
      spark.sparkContext
        .parallelize(Seq(good), 1)
        .mapPartitions { rows =>
          val picture = rows.next()
          val forever = Iterator.continually(input(picture))
          new BatchIterator(forever, files, NativeModel.open(opened), 16).map { r =>
            started.countDown(); r.error
          }
        }
        .count()
    }
    assert(started.await(60, TimeUnit.SECONDS), "the first batch did not come back")
    assert(Native.liveHandles()._1 == 1L)
    spark.sparkContext.cancelJobGroup("endless")
    intercept[SparkException](Await.result(endless, 60.seconds))
    val deadline = 60.seconds.fromNow
    while (Native.liveHandles()._1 > 0 && deadline.hasTimeLeft()) Thread.sleep(20)
    assertNothingOpen()
    assert(outputs(Seq(good), batchSize = 1).size == 1)
  }
}

object BatchIteratorSuite {
  // In local mode tasks run in this JVM: the closure sees the same latch.
  @volatile var started: CountDownLatch = new CountDownLatch(1)

  private val files = Seq(BinaryType)

  private def input(picture: Array[Byte]): InputRow = InputRow(Row(picture), Seq(picture))
}
