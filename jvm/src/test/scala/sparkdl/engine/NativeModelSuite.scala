package sparkdl.engine

import java.awt.Color
import java.nio.ByteBuffer

import org.apache.spark.sql.types.BinaryType

import sparkdl.ffi.{ErrorKind, SparkDLArgumentException, SparkDLException}

class NativeModelSuite extends EngineFixture {

  private def score(model: NativeModel, pictures: Any*): Seq[Any] = {
    val bridge = new ArrowBridge("test")
    try
      bridge.send(Seq(BinaryType -> pictures.toIndexedSeq)) { (bytes, length) =>
        model.run(bytes, length)(bridge.receive(_) { root =>
          pictures.indices.map(ArrowCells.value(root.getVector("output"), _))
        })
      }
    finally bridge.close()
  }

  test("a model tells pictures apart and counts what it did") {
    val model = NativeModel.open(options())
    try {
      val Seq(red: Array[Float], blue: Array[Float], bad) =
        score(model, png(Color.RED), png(Color.BLUE), Array[Byte](1, 2, 3)): @unchecked
      assert(red.length == 4 && math.abs(red.sum - 1f) < 1e-5)
      assert(red.zip(blue).exists { case (a, b) => math.abs(a - b) > 0.01f })
      assert(bad == null)
      val metrics = model.metrics
      assert((metrics.rows, metrics.invalidRows, metrics.nativeCalls) == ((3L, 1L, 1L)))
      assert(metrics.sessionRuns >= 1 && metrics.decodeNanos > 0 && metrics.runNanos > 0)
    } finally model.close()
    assertNothingOpen()
  }

  test("a closed model refuses work, and closing it again is no error") {
    val model = NativeModel.open(options())
    model.close()
    model.close()
    model.cancel()
    val error = intercept[SparkDLException](score(model, png(Color.RED)))
    assert(error.kind == ErrorKind.Closed)
    assert(
      error.getMessage.matches("""This model \(number \d+\) was closed: open it again\."""),
      error.getMessage
    )
    assertNothingOpen()
  }

  test("a cancelled model stops with kind Cancelled") {
    val model = NativeModel.open(options())
    try {
      model.cancel()
      val error = intercept[SparkDLException](score(model, png(Color.RED)))
      assert(error.kind == ErrorKind.Cancelled, error.getMessage)
      assert(error.getSqlState == "57014")
    } finally model.close()
    assertNothingOpen()
  }

  test("options that the core does not know are refused by name") {
    val unknown = intercept[SparkDLArgumentException](NativeModel.open(options("colour" -> "red")))
    assert(unknown.kind == ErrorKind.InvalidArgument)
    assert(unknown.getMessage.contains("colour"), unknown.getMessage)
    val missing = intercept[SparkDLArgumentException](NativeModel.open(options().filterNot(_._1 == "task")))
    assert(missing.getMessage.contains("task"), missing.getMessage)
    assertNothingOpen()
  }

  test("bytes that are no Arrow stream are an error of kind InvalidBatch") {
    val model = NativeModel.open(options())
    try {
      val error = intercept[SparkDLArgumentException](model.run(ByteBuffer.allocateDirect(64), 64)(identity))
      assert(error.kind == ErrorKind.InvalidBatch, error.getMessage)
    } finally model.close()
    assertNothingOpen()
  }

  test("a bundle is described without a model") {
    val bundle = Native.describeBundle(tiny)
    assert(bundle.digest.matches("[0-9a-f]{64}"))
    assert(bundle.manifest.contains("\"sparkdl-bundle\""))
    val missing = intercept[RuntimeException](Native.describeBundle("/no/such.sparkdl"))
    assert(missing.getMessage.contains("/no/such.sparkdl"), missing.getMessage)
  }

  test("settings are checked, and what is not set has a default") {
    val conf = EngineConf(Map("spark.sparkdl.threads" -> "many"))
    val error = intercept[SparkDLArgumentException](conf.threads)
    assert(error.getMessage == "spark.sparkdl.threads must be a whole number from 0 to 1024 but was many.")
    assert(EngineConf(Map.empty).logLevel == "info")
    spark.conf.set("spark.sparkdl.threads", "3")
    try assert(EngineConf.of(spark).threads == "3")
    finally spark.conf.unset("spark.sparkdl.threads")
  }
}
