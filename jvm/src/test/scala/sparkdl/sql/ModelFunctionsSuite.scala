package sparkdl.sql

import java.util.concurrent.atomic.LongAdder

import org.apache.spark.scheduler.{SparkListener, SparkListenerTaskEnd}
import org.apache.spark.sql.{AnalysisException, DataFrame}
import org.apache.spark.sql.catalyst.expressions.GenericInternalRow
import org.apache.spark.sql.catalyst.plans.logical.MapPartitions
import org.apache.spark.sql.streaming.Trigger

import sparkdl._
import sparkdl.engine.Native

/** Models as SQL functions: what the stages give, wherever a function stands, with as few native calls. */
class ModelFunctionsSuite extends KerasFixture {

  private val bad = Map(4 -> null, 9 -> "no picture".getBytes)

  private lazy val pictures: DataFrame = {
    val session = spark
    import session.implicits._
    val rows = (0 until 20).map(seed => (seed, bad.getOrElse(seed, Pictures.png(seed))))
    val frame = rows.toDF("id", "content").repartition(3).cache()
    frame.createOrReplaceTempView("pictures")
    ModelFunctions.register(spark, "scores", tiny, Map("batchSize" -> "4"))
    frame
  }

  private def byId(frame: DataFrame): Map[Int, Any] = {
    val found = frame.select("id", "out").collect()
    assert(found.map(_.getInt(0)).distinct.length === found.length)
    found.map(row => row.getInt(0) -> row.get(1)).toMap
  }

  private lazy val scores: Map[Int, Any] = byId(
    new DeepImagePredictor().setInputCol("content").setOutputCol("out").setModelName(tiny)
      .setOutputMode("array").transform(pictures))

  /** Scores are those of others but for the last bits, which depend on how many rows are run together. */
  private def assertSame(found: Map[Int, Any], wanted: Map[Int, Any]): Unit = {
    assert(found.keySet === wanted.keySet)
    found.foreach {
      case (id, numbers: collection.Seq[_]) =>
        val others = wanted(id).asInstanceOf[collection.Seq[Float]]
        assert(
          numbers.size === others.size && numbers.asInstanceOf[collection.Seq[Float]].zip(others).forall {
            case (number, other) => math.abs(number - other) <= 1e-6
          },
          s"row $id: $numbers is not $others"
        )
      case (id, none) => assert(none === wanted(id), s"row $id")
    }
  }

  private def query(text: String): Map[Int, Any] = { pictures; byId(spark.sql(text)) }

  /** Names of our nodes in the plan of a query. */
  private def models(frame: DataFrame): Seq[String] = {
    val plan = frame.queryExecution.optimizedPlan.toString
    "Model [^\\n]+?, batchSize=\\d+".r.findAllIn(plan).toSeq
  }

  test("scores are those of the stage, and rows without a picture are null") {
    assert(query("SELECT id, scores(content) AS out FROM pictures") === scores)
    assert(scores.filter(_._2 == null).keySet === bad.keySet)
  }

  test("batches and partitions change nothing") {
    for (size <- Seq(1, 3, 64); parts <- Seq(1, 4)) {
      pictures.repartition(parts).createOrReplaceTempView("spread")
      val call = s"dl_predict('$tiny', content, map('batchSize', '$size'))"
      assertSame(query(s"SELECT id, $call AS out FROM spread"), scores)
    }
    assert(query("SELECT id, scores(content) AS out FROM pictures WHERE id < 0").isEmpty)
  }

  test("best classes and features are those of the stages") {
    pictures
    ModelFunctions.register(spark, "best", tiny, Map("topK" -> "2"))
    ModelFunctions.register(spark, "features", tiny, Map("task" -> "featurize", "pooling" -> "max"))
    val best = new DeepImagePredictor().setInputCol("content").setOutputCol("out").setModelName(tiny)
      .setDecodePredictions(true).setTopK(2)
    assert(query("SELECT id, best(content) AS out FROM pictures") === byId(best.transform(pictures)))
    val features = new DeepImageFeaturizer().setInputCol("content").setOutputCol("out").setModelName(tiny)
      .setOutputMode("array").setPooling("max")
    assert(query("SELECT id, features(content) AS out FROM pictures") === byId(features.transform(pictures)))
    val names = spark.sql("SELECT id, best(content)[0].class AS out FROM pictures WHERE id = 3")
    assert(byId(names).values.head.asInstanceOf[String].startsWith("c"))
  }

  Seq(
    "filters" -> "SELECT id, scores(content) AS out FROM pictures WHERE scores(content)[0] >= 0 OR id IN (4, 9)",
    "joins" -> "SELECT a.id, scores(b.content) AS out FROM pictures a JOIN pictures b ON a.id = b.id",
    "join conditions" -> ("SELECT a.id, scores(a.content) AS out FROM pictures a LEFT JOIN pictures b " +
      "ON a.id = b.id AND scores(b.content)[0] > 2"),
    "sub-queries" -> ("SELECT id, (SELECT first(scores(content)) FROM pictures b WHERE b.id = a.id) AS out " +
      "FROM pictures a"),
    "sorts" -> "SELECT id, scores(content) AS out FROM pictures ORDER BY scores(content)[1] DESC, id",
    "cases" -> ("SELECT id, CASE WHEN id = 9 THEN NULL WHEN id < 100 THEN scores(content) END AS out " +
      "FROM pictures"),
    "groups" -> "SELECT id, max(scores(content)) AS out FROM pictures GROUP BY id",
    "groups by scores" -> ("SELECT max(id) AS id, scores(content) AS out FROM pictures " +
      "WHERE id NOT IN (4) GROUP BY scores(content) UNION ALL SELECT 4, NULL"),
    "calls on what is grouped by" ->
      "SELECT id, scores(content) AS out FROM pictures GROUP BY id, content ORDER BY scores(content)[0]",
    "conditions of groups" -> ("SELECT id, first(scores(content)) AS out FROM pictures GROUP BY id " +
      "HAVING scores(first(content))[0] > 0  OR first(content) IS NULL OR id = 9"),
    "calls on aggregates" -> "SELECT id, scores(first(content)) AS out FROM pictures GROUP BY id",
    "windows" -> "SELECT id, first(scores(content)) OVER (PARTITION BY id) AS out FROM pictures",
    "unions" -> ("SELECT id, scores(content) AS out FROM pictures WHERE id < 5 " +
      "UNION ALL SELECT id, scores(content) FROM pictures WHERE id >= 5"),
    "common tables" -> "WITH t AS (SELECT id, scores(content) AS out FROM pictures) SELECT * FROM t",
    "views of views" -> "SELECT id, if(size(out) > 0, out, NULL) AS out FROM (SELECT id, scores(content) AS out FROM pictures)"
  ).foreach { case (name, text) =>
    test(s"functions stand in $name") {
      assertSame(query(text), scores)
    }
  }

  test("views, tables, caches and streams hold what functions give") {
    pictures
    spark.sql("CREATE OR REPLACE TEMPORARY VIEW scored AS SELECT id, scores(content) AS out FROM pictures")
    assertSame(byId(spark.table("scored")), scores)
    val cached = spark.table("scored").cache()
    try assertSame(byId(cached), scores)
    finally cached.unpersist()
    val folder = newFolder().resolve("rows").toString
    spark.table("scored").write.parquet(folder)
    assertSame(byId(spark.read.parquet(folder)), scores)
    val source = newFolder().resolve("pictures").toString
    pictures.write.parquet(source)
    val stream = spark.readStream.schema(pictures.schema).parquet(source)
    val running = stream.selectExpr("id", "scores(content) AS out").writeStream.format("memory")
      .queryName("scored_stream").trigger(Trigger.AvailableNow()).start()
    running.awaitTermination()
    assertSame(byId(spark.table("scored_stream")), scores)
  }

  test("two uses of one call are one model, and a filter without a model comes before it") {
    pictures
    val frame = spark.sql(
      "SELECT scores(content)[0], scores(content)[1] FROM pictures WHERE scores(content)[2] > 0 AND id > 5")
    assert(models(frame).size === 1)
    val plan = frame.queryExecution.optimizedPlan.toString
    // Plans are printed from the result down to the source.
    assert(plan.indexOf("Model ") < plan.indexOf("> 5"))
    assert(models(frame).head.endsWith("batchSize=4"))
    assert(plan.contains("batchSize=4, device=CPU"))
    val sorted = spark.sql("SELECT scores(content) FROM pictures WHERE scores(content)[2] > 0 " +
      "ORDER BY scores(content)[1] LIMIT 3")
    assert(models(sorted).size === 1 && sorted.collect().length === 3 && sorted.columns.length === 1)
    val nested =
      spark.sql("SELECT id FROM (SELECT id, scores(content) AS s FROM pictures) WHERE s[0] > 2 AND id = 1")
    assert(nested.collect().isEmpty)
  }

  test("a model on tensors takes a column for each input, or a struct of them") {
    ModelFunctions.register(spark, "tensors", keras("tensors.keras").toString)
    val frame = spark.range(9).selectExpr(
      "cast(id AS int) AS id",
      "array(cast(id % 5 AS int), 1, 2, 3) AS tokens",
      "if(id = 4, NULL, array(id / 2, -1.0, cast(id AS double))) AS vector")
    val outputs = TFInputGraph.fromKeras(keras("tensors.keras").toString).outputs.map(_.name).sorted
    val wanted = new KerasTransformer().setInputCols(Array("tokens", "vector")).setOutputCols(outputs.toArray)
      .setOutputNames(outputs.toArray).setModelFile(keras(
        "tensors.keras").toString).setOutputMode("array").transform(frame)
      .selectExpr("id", s"if(${outputs.head} IS NULL, NULL, struct(${outputs.mkString(", ")})) AS out")
    Seq("tensors(tokens, vector)", "tensors(named_struct('vector', vector, 'tokens', tokens))").foreach {
      call =>
        assert(byId(frame.selectExpr("id", s"$call AS out")) === byId(wanted))
    }
    // Literals with a point are decimals.
    val literals = "tensors(array(1, 2, 3, 4), array(0.5, 0.25, 1.0)) = " +
      "tensors(array(1, 2, 3, 4), array(0.5D, 0.25D, 1D))"
    assert(spark.sql(s"SELECT $literals").head().getBoolean(0))
  }

  test("calls that run row by row, in tasks and while a query is planned, leave no model open") {
    pictures
    val twice =
      "SELECT a.id FROM pictures a JOIN pictures b ON a.id = b.id AND scores(a.content)[0] = scores(b.content)[0]"
    assert(spark.sql(twice).count() === 18)
    assert(spark.sql(
      "SELECT scores(c) IS NULL FROM VALUES (X'00'), (NULL) AS t(c)").collect().forall(_.getBoolean(0)))
    assert(Native.liveHandles() === ((0L, 0L)))
  }

  private def said(text: String): String = {
    pictures
    intercept[AnalysisException](spark.sql(text)).getMessage
  }

  test("wrong arguments are told when a query is analyzed") {
    assert(said("SELECT scores(id) FROM pictures").contains("must be of type binary or image"))
    assert(said("SELECT scores(content, id) FROM pictures").contains("it takes 1 columns"))
    assert(said("SELECT transform(array(content), c -> scores(c)) FROM pictures")
      .contains("does not run inside of a lambda function"))
    assert(said("SELECT scores() FROM pictures").contains("but was given 0"))
    ModelFunctions.register(spark, "tensors", keras("tensors.keras").toString)
    assert(said(
      "SELECT tensors(array(1, 2, 3, 4), array('a'))").contains("Column argument 2 is of type array<string>"))
  }

  test("wrong models and options are refused when a function is registered") {
    def refused(expected: String)(model: String, options: (String, String)*) =
      assert(refusal(ModelFunctions.register(spark, "no", model, options.toMap)).contains(expected))
    refused("Unknown model ResNet51")("ResNet51")
    refused("task cannot be \"score\"")(tiny, "task" -> "score")
    refused("A network does not do the task \"run\"")(tiny, "task" -> "run")
    refused("topK goes with the task \"predict\"")(tiny, "task" -> "featurize", "topK" -> "2")
    refused("Unknown option batch")(tiny, "batch" -> "2")
    refused("The option handleInvalid has no place in a function")(tiny, "handleInvalid" -> "skip")
    refused("The option batchSize cannot be \"many\"")(tiny, "batchSize" -> "many")
  }

  test("dl_predict, dl_featurize and dl_run are there with the jar alone") {
    assert(query(s"SELECT id, dl_predict('$tiny', content) AS out FROM pictures") === scores)
    ModelFunctions.register(spark, "best", tiny, Map("topK" -> "2"))
    ModelFunctions.register(spark, "features", tiny, Map("task" -> "featurize", "pooling" -> "max"))
    assert(query(s"SELECT id, dl_predict('$tiny', content, 2) AS out FROM pictures") ===
      query("SELECT id, best(content) AS out FROM pictures"))
    assert(query(s"SELECT id, dl_featurize('$tiny', content, map('pooling', 'max')) AS out FROM pictures") ===
      query("SELECT id, features(content) AS out FROM pictures"))
    val file = keras("tensors.keras")
    ModelFunctions.register(spark, "tensors", file.toString)
    val rows = "(SELECT array(1, 1, 2, 3) AS tokens, array(id, 1, 2) AS vector FROM range(5))"
    assert(spark.sql(s"SELECT dl_run('$file', tokens, vector) FROM $rows").collect() ===
      spark.sql(s"SELECT tensors(tokens, vector) FROM $rows").collect())
    val flat = spark.sql(s"SELECT dl_run('$file', tokens, vector, map('batchSize', '2')) FROM $rows")
    assert(flat.collect() === spark.sql(s"SELECT tensors(tokens, vector) FROM $rows").collect())
    assert(models(flat).head.endsWith("batchSize=2"))
    val once =
      spark.sql(s"SELECT dl_predict('$tiny', content)[0], dl_predict('$tiny', content)[1] FROM pictures")
    assert(models(once).size === 1)
    Seq("dl_predict", "dl_featurize", "dl_run").foreach { name =>
      val text = spark.sql(s"DESCRIBE FUNCTION EXTENDED $name").collect().map(_.getString(0)).mkString("\n")
      assert(text.contains(s"$name(model, ") && text.contains(s"> SELECT $name("))
    }
  }

  test("their wrong arguments are told when a query is analyzed") {
    assert(said("SELECT dl_predict(id, content) FROM pictures").contains("the model, must be a literal"))
    assert(said("SELECT dl_predict('ResNet51', content) FROM pictures").contains("Unknown model ResNet51"))
    assert(said(s"SELECT dl_predict('$tiny', content, id) FROM pictures").contains("must be literals"))
    assert(said(s"SELECT dl_predict('$tiny', content, 1.5) FROM pictures").contains("must be literals"))
    assert(
      said(s"SELECT dl_featurize('$tiny', content, 3) FROM pictures").contains("options a map of strings"))
    assert(said(s"SELECT dl_featurize('$tiny', content, map('pool', 'max')) FROM pictures")
      .contains("Unknown option pool"))
    assert(said(
      "SELECT dl_run('none.keras', content, map('batchSize', '2')) FROM pictures").contains("none.keras"))
    assert(said(s"SELECT dl_predict('$tiny', id) FROM pictures").contains("must be of type binary or image"))
  }

  /** Native calls of the tasks of an action, as the metrics of their stages have them. */
  private def nativeCalls(action: => Any): Long = {
    val found = new LongAdder
    val listener = new SparkListener {
      override def onTaskEnd(task: SparkListenerTaskEnd): Unit = task.taskInfo.accumulables
        .filter(_.name.contains("sparkdl native calls"))
        .foreach(_.update.foreach(count => found.add(count.toString.toLong)))
    }
    spark.sparkContext.addSparkListener(listener)
    try {
      countingJobs(action)
      found.sum
    } finally spark.sparkContext.removeSparkListener(listener)
  }

  test("predictions, best classes and features of one picture are one run") {
    pictures
    val together = spark.sql(
      s"SELECT id, dl_predict('$tiny', content) AS p, dl_predict('$tiny', content, 2) AS k, " +
        s"dl_featurize('$tiny', content) AS f, dl_featurize('$tiny', content, map('pooling', 'max')) AS m FROM pictures")
    assert(models(together).size === 1)
    assert(together.queryExecution.optimizedPlan.toString.contains(
      "(predictions,topK,features,features), batchSize=32, device=CPU"))
    val alone = Seq(
      "dl_predict('%s', content)",
      "dl_predict('%s', content, 2)",
      "dl_featurize('%s', content)",
      "dl_featurize('%s', content, map('pooling', 'max'))").map { call =>
      query(s"SELECT id, ${call.format(tiny)} AS out FROM pictures")
    }
    val rows = together.collect()
    assert(rows.length === 20)
    rows.foreach(row => assert(row.toSeq.tail === alone.map(_(row.getInt(0)))))
    assert(nativeCalls(together.collect()) === 3)
    // Also of operators above each other; but other options are another run.
    val filtered = spark.sql(
      s"SELECT dl_featurize('$tiny', content) FROM pictures WHERE dl_predict('$tiny', content)[0] >= 0")
    assert(models(filtered).size === 1 && filtered.count() === 18)
    val apart = spark.sql(s"SELECT dl_predict('$tiny', content), " +
      s"dl_featurize('$tiny', content, map('scaleHint', 'SCALE_BICUBIC')) FROM pictures")
    assert(models(apart).size === 2)
  }

  test("rows are gathered for conditions of joins, and for calls on groups") {
    pictures
    val sides =
      spark.sql("SELECT a.id FROM pictures a LEFT JOIN pictures b ON scores(a.content) = scores(b.content)")
    assert(models(sides).size === 2 && sides.count() >= 20)
    val semi =
      spark.sql("SELECT id FROM pictures a WHERE EXISTS (SELECT 1 FROM pictures b WHERE a.id = b.id AND " +
        "scores(b.content)[0] >= 0)")
    assert(models(semi).size === 1 && semi.count() === 18)
    ModelFunctions.register(spark, "tensors", keras("tensors.keras").toString)
    val rows =
      "(SELECT id, array(cast(id AS int), 1, 2, 3) AS tokens, array(id, 1, 2) AS vector FROM range(5))"
    val both = spark.sql(
      s"SELECT a.id FROM $rows a JOIN $rows b ON a.id = b.id AND tensors(a.tokens, b.vector) IS NOT NULL")
    assert(models(both).size === 1 && both.count() === 5)
    val outer = spark.sql(
      s"SELECT a.id FROM $rows a LEFT JOIN $rows b ON a.id = b.id AND tensors(a.tokens, b.vector) IS NULL")
    assert(models(outer).isEmpty && outer.count() === 5)
    val groups = spark.sql("SELECT id % 3, scores(max(content))[0] + max(id) FROM pictures GROUP BY id % 3")
    assert(models(groups).size === 1 && groups.count() === 3)
    assert(nativeCalls(groups.collect()) <= 3)
  }

  /** Crosses into native code of an action. */
  private def crossings(action: => Any): Long = {
    val before = Native.calls()
    action
    Native.calls() - before
  }

  /** How often a row is copied where a plan takes rows to a model, for each of these rows. */
  private def copies(frame: DataFrame, contents: Seq[Array[Byte]]): Seq[Int] = {
    val run = frame.queryExecution.optimizedPlan.collectFirst { case mapped: MapPartitions =>
      mapped.func
    }.get
    val rows = contents.map(content => new CountedRow(Array[Any](content)))
    assert(run(rows.iterator).size === rows.size)
    rows.map(_.copies)
  }

  test("a function makes the native calls, crossings and copies of rows of its stage, no more") {
    val one = pictures.select("content").repartition(2).cache()
    one.createOrReplaceTempView("contents")
    val stage = new DeepImagePredictor().setInputCol("content").setOutputCol("out").setModelName(tiny)
      .setOutputMode("array").setBatchSize(4)
    val (byStage, bySql) =
      (stage.transform(one).select("out"), spark.sql("SELECT scores(content) AS out FROM contents"))
    // Planned, and what is done once is done.
    Seq(byStage, bySql).foreach(_.collect())
    val wanted = crossings(byStage.collect())
    assert(wanted > 10 && crossings(bySql.collect()) === wanted)
    assert(nativeCalls(bySql.collect()) === nativeCalls(byStage.collect()))
    val some = one.collect().map(_.getAs[Array[Byte]](0)).toSeq
    assert(copies(byStage, some) === Seq.fill(20)(1) && copies(bySql, some) === Seq.fill(20)(1))
  }

  test("a function makes as many native calls as its stage: a batch each, and not a row") {
    val sizes = pictures.rdd.mapPartitions(rows => Iterator(rows.size)).collect()
    val wanted = sizes.map(size => (size + 3) / 4).sum
    val stage = new DeepImagePredictor().setInputCol("content").setOutputCol("out").setModelName(tiny)
      .setBatchSize(4)
    assert(nativeCalls(stage.transform(pictures).select("out").collect()) === wanted)
    assert(nativeCalls(spark.sql("SELECT scores(content) FROM pictures").collect()) === wanted)
    val twice = "SELECT scores(content)[0], scores(content) FROM pictures WHERE size(scores(content)) > 0"
    assert(nativeCalls(spark.sql(twice).collect()) === wanted)
    assert(nativeCalls(spark.sql("SELECT scores(content) FROM pictures WHERE id < 0").collect()) === 0)
    assert(nativeCalls(spark.sql("SELECT scores(content) FROM pictures LIMIT 2").collect()) === 1)
  }
}

/** A row that knows how often it was copied. */
private final class CountedRow(values: Array[Any]) extends GenericInternalRow(values) {
  var copies = 0

  override def copy(): CountedRow = {
    copies += 1
    this
  }
}
