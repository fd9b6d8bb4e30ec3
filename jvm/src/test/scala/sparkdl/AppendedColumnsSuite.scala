package sparkdl

import scala.collection.immutable.ArraySeq

import org.apache.spark.ml.linalg.{SQLDataTypes, Vector, Vectors}
import org.apache.spark.sql.{DataFrame, Row}
import org.apache.spark.sql.functions._
import org.apache.spark.sql.sparkdl.InternalRows
import org.apache.spark.sql.types._

import sparkdl.engine.RowExtension

/** Columns more, in Spark's own form and through its public interface. */
class AppendedColumnsSuite extends SparkFixture {
  import AppendedColumnsSuite._

  private val kinds = Seq("float", "double", "int", "bigint", "smallint", "tinyint")

  private def rows: DataFrame = {
    val session = spark
    import session.implicits._
    val vectors = Seq(Vectors.dense(1, 2), Vectors.sparse(3, Array(1), Array(5.0)), null, Vectors.dense(-1))
    val frame =
      vectors.zipWithIndex.map(_.swap).toDF("id", "vector").repartition(1).sortWithinPartitions("id")
    val lists = kinds.map { kind =>
      expr(s"case id when 0 then array(cast(1 as $kind), cast(-2 as $kind)) when 1 then " +
        s"array(cast(3 as $kind), null) when 2 then null else array_remove(array(cast(1 as $kind)), 1) end").as(
        kind)
    }
    frame.select(col("id") +: col("vector") +: lists :+
      expr("array(array(cast(id as float)), array())").as("nested") :+
      expr("if(id = 1, null, concat('ü', id))").as("text") :+
      expr("encode(concat('bytes', id), 'utf-8')").as("bytes"): _*)
  }

  /** The same by both ways. */
  private def both(frame: DataFrame, extension: RowExtension, fields: StructField*): Seq[DataFrame] = Seq(
    InternalRows.appended(frame, extension, fields),
    AppendedColumns.public(frame, extension, fields)
  )

  test("a row shows the same values in both forms, though rows are held while others come") {
    val Seq(own, public) = both(rows, new Shown(held = 3), StructField("shown", StringType))
      .map(_.orderBy("id").collect().map(_.getAs[String]("shown")).toSeq): @unchecked
    assert(own === public)
    assert(own.head.contains("1.0, -2.0") && own(1).contains("3.0, null"))
  }

  test("new columns of every type hold what they are given") {
    val fields = Given.fields
    val frame = spark.range(0, 5, 1, 2).toDF()
    both(frame, new Given(9), fields: _*).foreach { result =>
      assert(StructType(result.schema.fields.tail) === StructType(fields))
      val found = result.orderBy("id").collect()
      assert(found(1).toSeq.tail.forall(_ == null))
      val row = found(2)
      assert(row.getAs[scala.collection.Seq[Float]]("f") === Seq(2f, 0.5f))
      assert(row.getAs[scala.collection.Seq[Double]]("d") === Seq(2.0))
      assert(row.getAs[scala.collection.Seq[Long]]("l") === Seq(2L, -2L))
      assert(row.getAs[scala.collection.Seq[Any]]("nested") === Seq(Seq(2), Seq()))
      assert(row.getAs[Vector]("vector") === Vectors.dense(2.0))
      val image = row.getStruct(6)
      assert(image.toSeq.init === Seq[Any]("o", 1, 1, 1, 0) && image.getAs[Array[Byte]](5) === Array[Byte](2))
      assert(row.getAs[scala.collection.Seq[Row]]("classes").head === Row("c2", "d", 0.5f))
      assert(row.getAs[String]("text") === "ü2")
      assert(row.getAs[Short]("number") === 2)
    }
  }

  test("fields of fields of new columns, and of old ones") {
    val fields = Given.fields.takeRight(4)
    val frame =
      spark.range(0, 5, 1, 2).withColumn("given", expr("array(named_struct('x', id, 'y', 'a', 'z', 1f))"))
    Seq(
      InternalRows.appended(frame, new Given(4), fields),
      AppendedColumns.public(frame, new Given(4), fields))
      .foreach { result =>
        val found =
          result.select("id", "classes.probability", "image.width", "given.z", "given.y", "classes.class")
            .filter("id = 3").head()
        assert(found.toSeq === Seq[Any](3L, Seq(0.5f), 1, Seq(1f), Seq("a"), Seq("c3")))
        assert(
          result.filter("image.height = 1 and classes[0].class = 'c4'").select("classes.description").head()
            .getSeq[String](0) === Seq("d"))
        assert(result.groupBy("image.mode").count().count() === 2)
        assert(result.select(explode(col("classes")).as("c")).select("c.probability").count() === 4)
      }
  }

  private def doubled(frame: DataFrame): DataFrame =
    AppendedColumns(frame, new Doubled(), Seq(StructField("double", LongType)))

  private def pairs(frame: DataFrame): Seq[(Long, Long)] =
    frame.select("id", "double").collect().map(row => row.getLong(0) -> row.getLong(1)).toSeq.sorted

  private val wanted: Seq[(Long, Long)] = (0L until 50L).map(id => id -> 2 * id)

  test("queries go on from the new columns: joins with itself, unions, filters, sorts, caching, views") {
    val frame = doubled(spark.range(0, 50, 1, 3).toDF())
    assert(pairs(frame) === wanted)
    val joined = frame.as("a").join(frame.as("b"), col("a.id") === col("b.double"))
    assert(joined.count() === 25)
    assert(joined.select("a.double").collect().map(_.getLong(0)).toSet ===
      (0L until 50L by 2).map(_ * 2).toSet)
    assert(pairs(frame.union(frame)).distinct === wanted)
    assert(frame.filter("double > 90").count() === 4)
    assert(frame.orderBy(col("double").desc).first().getLong(1) === 98)
    assert(frame.groupBy((col("double") % 4).as("m")).count().count() === 2)
    val cached = frame.cache()
    try assert(pairs(cached) === wanted && pairs(cached) === wanted)
    finally cached.unpersist()
    assert(pairs(doubled(frame.withColumnRenamed("double", "before"))) === wanted)
    frame.createGlobalTempView("doubled")
    try assert(pairs(spark.newSession().table("global_temp.doubled")) === wanted)
    finally spark.catalog.dropGlobalTempView("doubled")
  }

  test("rows are as many as they were without generated code, and where there are very many columns") {
    val session = spark
    session.conf.set("spark.sql.codegen.wholeStage", "false")
    try assert(pairs(doubled(spark.range(0, 50, 1, 3).toDF())) === wanted)
    finally session.conf.unset("spark.sql.codegen.wholeStage")
    val wide = spark.range(0, 50, 1, 3).select(col("id") +: (1 to 300).map(n => lit(n).as(s"c$n")): _*)
    assert(pairs(doubled(wide)) === wanted)
    assert(doubled(wide).select("c299").distinct().collect().map(_.getInt(0)) === Array(299))
  }

  test("metadata of columns, and of fields within, stays") {
    val metadata = new MetadataBuilder().putString("unit", "m").build()
    val inner = StructType(Seq(StructField("x", IntegerType, nullable = false, metadata)))
    val frame = spark.createDataFrame(
      java.util.Arrays.asList(Row(1L, Row(2))),
      StructType(Seq(
        StructField("id", LongType, nullable = false, metadata),
        StructField("of.x", inner, nullable = false)))
    )
    both(frame, new Doubled(), StructField("double", LongType, metadata = metadata)).foreach { result =>
      assert(result.schema.fields.init === frame.schema.fields)
      assert(result.schema("double").metadata === metadata)
    }
  }
}

object AppendedColumnsSuite {

  /** All values of a row as text, after as many rows as are held have come. */
  final class Shown(held: Int) extends RowExtension {

    override def extend[A](rows: Iterator[Row])(join: (Row, Array[Any]) => A): Iterator[A] =
      rows.grouped(held).flatMap(_.map { row =>
        val values = row.toSeq.map {
          case bytes: Array[Byte] => bytes.mkString("[", " ", "]")
          case seq: scala.collection.Seq[_] => seq.map {
              case inner: scala.collection.Seq[_] => inner.mkString("[", " ", "]")
              case other => String.valueOf(other)
            }.mkString("[", ", ", "]")
          case other => String.valueOf(other)
        }
        join(row, Array(values.mkString("; ")))
      })
  }

  final class Doubled extends RowExtension {

    override def extend[A](rows: Iterator[Row])(join: (Row, Array[Any]) => A): Iterator[A] =
      rows.map(row => join(row, Array(2 * row.getLong(0))))
  }

  object Given {

    val fields: Seq[StructField] = Seq(
      StructField("f", ArrayType(FloatType, containsNull = false)),
      StructField("d", ArrayType(DoubleType, containsNull = false)),
      StructField("l", ArrayType(LongType, containsNull = false)),
      StructField("nested", ArrayType(ArrayType(IntegerType, containsNull = false), containsNull = false)),
      StructField("vector", SQLDataTypes.VectorType),
      StructField("image", StageColumns.imageType),
      StructField("classes", OutputKind.classes),
      StructField("text", StringType),
      StructField("number", ShortType)
    )
  }

  /** The last of the values that models may give, so many; nulls for the row 1. */
  final class Given(count: Int) extends RowExtension {

    override def extend[A](rows: Iterator[Row])(join: (Row, Array[Any]) => A): Iterator[A] = rows.map { row =>
      val id = row.getLong(0)
      if (id == 1) join(row, Array.fill[Any](count)(null))
      else
        join(
          row,
          Array[Any](
            if (id == 0) Array(1f) else ArraySeq.unsafeWrapArray(Array(id.toFloat, 0.5f)),
            ArraySeq.unsafeWrapArray(Array(id.toDouble)),
            ArraySeq.unsafeWrapArray(Array(id, -id)),
            ArraySeq[Any](ArraySeq(id.toInt), ArraySeq.empty[Int]),
            Vectors.dense(id.toDouble),
            Row("o", 1, 1, 1, 0, Array(id.toByte)),
            Seq(Row(s"c$id", "d", 0.5f)),
            s"ü$id",
            id.toShort
          ).takeRight(count)
        )
    }
  }
}
