package sparkdl

import org.apache.spark.sql.{DataFrame, SaveMode}
import org.apache.spark.sql.functions._
import org.apache.spark.sql.streaming.Trigger

/** Streams are DataFrames like any other. */
class StreamSuite extends SparkFixture {

  private def featurizer =
    new DeepImageFeaturizer().setInputCol("picture").setOutputCol("out").setModelName(tiny)

  private def source(): (DataFrame, String) = {
    val session = spark
    import session.implicits._
    val folder = newFolder().resolve("pictures").toString
    val pictures =
      (1 to 9).map(i => (i, java.sql.Timestamp.valueOf(s"2026-01-01 00:00:0$i"), Pictures.png(i)))
        .toDF("id", "time", "picture")
    pictures.repartition(3, col("id")).write.mode(SaveMode.Overwrite).parquet(folder)
    (spark.read.parquet(folder), folder)
  }

  private def stream(folder: String, schema: DataFrame): DataFrame =
    spark.readStream.schema(schema.schema).option("maxFilesPerTrigger", 1L).parquet(folder)

  test("a stream gives what the same rows give at rest") {
    val (still, folder) = source()
    val moving = featurizer.transform(stream(folder, still))
    assert(moving.isStreaming)
    val query =
      moving.writeStream.format("memory").queryName("features").trigger(Trigger.AvailableNow()).start()
    query.awaitTermination()
    assert(query.recentProgress.count(_.numInputRows > 0) > 1, "the stream ran as one batch")
    val expected = featurizer.transform(still).orderBy("id").collect().map(_.get(3))
    assert(spark.table("features").orderBy("id").collect().map(_.get(3)) === expected)
  }

  test("a watermark set before the stage still holds after it") {
    val (still, folder) = source()
    val late = featurizer.transform(stream(folder, still).withWatermark("time", "1 minute"))
    val counts = late.groupBy(window(col("time"), "5 seconds")).count()
    val query = counts.writeStream.format(
      "memory"
    ).queryName("counts").outputMode("append").trigger(Trigger.AvailableNow()).start()
    query.awaitTermination()
    assert(query.exception.isEmpty)
  }
}
