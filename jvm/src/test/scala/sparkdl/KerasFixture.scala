package sparkdl

import java.nio.file.Path

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}

import sparkdl.ffi.SparkDLException

/** Small Keras models and what Keras makes of given numbers and pictures; tests/fixtures/make_keras_files.py wrote them. */
abstract class KerasFixture extends SparkFixture {

  protected def keras(name: String): Path = SparkFixture.fixture("keras").resolve(name)

  protected def expected(name: String): JsonNode = new ObjectMapper().readTree(keras(name).toFile)

  /** All numbers of a node, however they are nested. */
  protected def numbers(node: JsonNode): Seq[Double] =
    if (node.isArray) node.elements().asScala.flatMap(numbers).toSeq
    else if (node.isBoolean) Seq(if (node.asBoolean) 1.0 else 0.0)
    else Seq(node.asDouble)

  /** All numbers of a value of a row, however they are nested. */
  protected def flat(value: Any): Seq[Double] = value match {
    case vector: org.apache.spark.ml.linalg.Vector => vector.toArray.toSeq
    case values: scala.collection.Seq[_] => values.iterator.flatMap(flat).toSeq
    case truth: Boolean => Seq(if (truth) 1.0 else 0.0)
    case number: Number => Seq(number.doubleValue)
    case other => fail(s"$other is no number")
  }

  protected def assertClose(found: Seq[Double], wanted: Seq[Double]): Unit = {
    assert(found.length === wanted.length)
    val furthest = found.zip(wanted).map { case (a, b) => math.abs(a - b) }.max
    assert(furthest <= 1e-5 * math.max(1.0, wanted.map(math.abs).max))
  }

  /** The error of ours that a job ended in. */
  protected def failure(action: => Any): SparkDLException = {
    val error = intercept[Throwable](action)
    Iterator.iterate(error)(_.getCause).takeWhile(_ != null).collectFirst { case e: SparkDLException => e }
      .getOrElse(fail(error))
  }
}
