package sparkdl.ffi

import java.io.{ByteArrayInputStream, ByteArrayOutputStream, ObjectInputStream, ObjectOutputStream}

import org.apache.spark.SparkThrowable
import org.apache.spark.sql.SparkSession
import org.scalatest.funsuite.AnyFunSuite

class ErrorKindSuite extends AnyFunSuite {

  test("Java knows the kinds of the core, with their conditions and SQLSTATEs") {
    NativeLibrary.ensureLoaded()
    val core = NativeApi.errorKinds().grouped(3).map(_.toSeq).toSeq
    assert(ErrorKind.values().toSeq.map(kind => Seq(kind.name, kind.condition, kind.sqlState)) == core)
  }

  test("every kind survives serialization with its words and its cause") {
    ErrorKind.values().foreach { kind =>
      val bytes = new ByteArrayOutputStream
      new ObjectOutputStream(bytes).writeObject(kind.exception("what was asked", new RuntimeException("why")))
      val read = new ObjectInputStream(
        new ByteArrayInputStream(bytes.toByteArray)
      ).readObject().asInstanceOf[Exception]
      assert(read.getMessage == "what was asked")
      assert(read.getCause.getMessage == "why")
      val spark = read.asInstanceOf[SparkThrowable]
      assert((spark.getCondition, spark.getSqlState) == ((kind.condition, kind.sqlState)))
    }
  }

  test("what the caller must change is an IllegalArgumentException, the rest is not") {
    import ErrorKind._
    val arguments = ErrorKind.values().filter(_.exception("").isInstanceOf[IllegalArgumentException]).toSet
    assert(arguments == Set(InvalidArgument, InvalidModel, InvalidBatch))
  }

  test("a task's exception arrives at the driver as it was thrown") {
    val spark = SparkSession.builder().getOrCreate()
    val error = intercept[SparkDLException] {
      spark.sparkContext.parallelize(Seq(1), 1).foreach(_ => throw ErrorKind.InvalidRow.exception("this row"))
    }
    assert((error.kind, error.getMessage) == ((ErrorKind.InvalidRow, "this row")))
  }
}
