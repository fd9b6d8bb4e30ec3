package sparkdl

import org.apache.spark.ml.attribute.{Attribute, NominalAttribute}
import org.apache.spark.ml.feature.{StringIndexer, VectorAssembler}
import org.apache.spark.ml.linalg.Vectors
import org.apache.spark.sql.{DataFrame, Row}
import org.apache.spark.sql.functions._
import org.apache.spark.sql.types._

/** Columns that are none of the stage's business. */
class ColumnsSuite extends SparkFixture {

  private def featurizer =
    new DeepImageFeaturizer().setInputCol("picture").setOutputCol("out").setModelName(tiny)

  private def pictures: DataFrame = {
    val session = spark
    import session.implicits._
    (1 to 4).map(seed => (seed, Pictures.png(seed))).toDF("id", "picture")
  }

  /** Every row as Spark's own text of it, so that equality does not depend on the classes of values. */
  private def texts(frame: DataFrame, columns: Seq[String]): Seq[String] =
    frame.select(columns.map(name => col(s"`$name`")): _*).collect().toSeq.map(_.toString)

  private val expressions = Seq(
    "cast(id as byte) as b",
    "cast(id as short) as s",
    "cast(id as bigint) * 9000000000 as l",
    "cast('NaN' as float) as f",
    "cast('-0.0' as double) as d",
    "cast(id as decimal(38, 18)) / 7 as dec",
    "id % 2 = 0 as flag",
    "cast(null as string) as nothing",
    "cast('0001-01-02' as date) as early",
    "cast('9999-12-31 23:59:59.999999' as timestamp) as late",
    "cast('1582-10-10 01:02:03.000004' as timestamp_ntz) as gap",
    "make_interval(1, 2, 3, 4, 5, 6, 7.008009) as calendar",
    "interval '3-4' year to month as months",
    "interval '5 06:07:08.000009' day to second as span",
    "array(id, null) as list",
    "map('a', array(named_struct('x', id, 'y', null))) as nested",
    "named_struct('with.dot', id, 'with blank', 'x') as record",
    "parse_json('{\"a\": [1, 2.5, null]}') as v",
    "cast(null as void) as void"
  )

  test("values, types, nullability of columns of every type pass through") {
    val frame = pictures.selectExpr("*" +: expressions: _*)
    val kept = frame.columns.filterNot(_ == "picture").toSeq
    val result = featurizer.transform(frame)
    assert(texts(result, kept) === texts(frame, kept))
    assert(StructType(result.schema.fields.init) === frame.schema)
    assert(result.select("picture").collect().map(_.getAs[Array[Byte]](0).toSeq) ===
      frame.select("picture").collect().map(_.getAs[Array[Byte]](0).toSeq))
  }

  test("vectors and matrices pass through as MLlib's types") {
    val session = spark
    import session.implicits._
    val frame = Seq(
      (Pictures.png(1), Vectors.dense(1, 2), Vectors.sparse(5, Array(1, 3), Array(0.5, -1.0))),
      (Pictures.png(2), null, Vectors.sparse(5, Array(), Array()))
    ).toDF("picture", "dense", "sparse")
    val result = featurizer.transform(frame)
    assert(StructType(result.schema.fields.init) === frame.schema)
    assert(result.select("dense", "sparse").collect() === frame.select("dense", "sparse").collect())
  }

  test("columns that cannot be null stay so, and metadata stays") {
    val note = new MetadataBuilder().putString("note", "kept").putLong("n", 3).build()
    val schema = StructType(Seq(
      StructField("id", LongType, nullable = false, note),
      StructField("picture", BinaryType, nullable = false),
      StructField(
        "inner",
        StructType(Seq(StructField("x", IntegerType, nullable = false, note))),
        nullable = false
      )
    ))
    val rows = (1 to 3).map(i => Row(i.toLong, Pictures.png(i), Row(i)))
    val frame = spark.createDataFrame(spark.sparkContext.parallelize(rows, 1), schema)
    assert(StructType(featurizer.transform(frame).schema.fields.init) === schema)
  }

  test("the labels of a StringIndexer are still there afterwards") {
    val indexed = new StringIndexer().setInputCol("name").setOutputCol("label")
      .fit(pictures.withColumn("name", concat(lit("n"), col("id")))).transform(pictures.withColumn(
        "name",
        concat(lit("n"), col("id"))
      ))
    val label =
      Attribute.fromStructField(featurizer.transform(indexed).schema("label")).asInstanceOf[NominalAttribute]
    assert(label.values.get.toSeq === Seq("n1", "n2", "n3", "n4"))
  }

  test("names with dots, blanks and backticks are names like any other") {
    val odd = Seq("a.b", "c d", "e`f", "_0", "ü", "")
    val frame = odd.foldLeft(pictures)((f, name) => f.withColumn(name, col("id"))).withColumnRenamed(
      "picture",
      "my.picture `x`"
    )
    val stage = featurizer.setInputCol("my.picture `x`").setOutputCol("the.out put").setErrorCol("why.not")
    val result = stage.transform(frame)
    assert(result.columns === frame.columns ++ Seq("the.out put", "why.not"))
    result.collect().foreach { row =>
      odd.foreach(name => assert(row.getInt(row.fieldIndex(name)) === row.getInt(0)))
      assert(row.getAs[Any](row.length - 2) != null)
    }
  }

  test("two columns of one name pass through, unless they are asked for") {
    val twice = pictures.select(col("id"), col("id").cast("string").as("id"), col("picture"))
    val result = featurizer.transform(twice)
    assert(result.columns === Array("id", "id", "picture", "out"))
    assert(result.collect().map(row => (row.get(0), row.get(1))) === (1 to 4).map(i => (i, i.toString)))
    val ambiguous = pictures.select(col("picture"), col("picture"))
    assert(
      refusal(featurizer.transform(ambiguous)) === "Column picture is ambiguous: 2 columns have this name."
    )
  }

  test("the result feeds a VectorAssembler, which needs the size of the vector") {
    val assembler =
      new VectorAssembler().setInputCols(Array("id", "out")).setOutputCol("all").setHandleInvalid("keep")
    val row = assembler.transform(featurizer.transform(pictures)).select("all").head()
    assert(row.getAs[org.apache.spark.ml.linalg.Vector](0).size === 9)
  }
}
