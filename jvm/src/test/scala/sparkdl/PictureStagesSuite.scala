package sparkdl

import java.nio.file.Files

import org.apache.spark.ml.attribute.AttributeGroup
import org.apache.spark.ml.linalg.Vector
import org.apache.spark.sql.{DataFrame, Row}
import org.apache.spark.sql.types._

/** What the featurizer and the predictor make of good pictures: the tiny model, features [16, 12, 8], four classes. */
class PictureStagesSuite extends SparkFixture {

  private val names = Seq("c0" -> "circle", "c1" -> "square", "c2" -> "stripe", "c3" -> "cross")

  private lazy val pictures: DataFrame = {
    val session = spark
    import session.implicits._
    (1 to 6).map(seed => (seed, Pictures.png(seed))).toDF("id", "picture")
  }

  private def featurizer =
    new DeepImageFeaturizer().setInputCol("picture").setOutputCol("out").setModelName(tiny)

  private def predictor =
    new DeepImagePredictor().setInputCol("picture").setOutputCol("out").setModelName(tiny)

  private def vectors(frame: DataFrame): Seq[Array[Double]] =
    frame.select("out").collect().toSeq.map(_.getAs[Vector](0).toArray)

  private def close(left: Array[Double], right: Array[Double]): Boolean =
    left.length == right.length && left.zip(right).forall { case (a, b) =>
      math.abs(a - b) <= 1e-5 * (1 + math.abs(b))
    }

  test("features differ from picture to picture, and pooling is what its name says of the whole map") {
    val maps = vectors(featurizer.setPooling("none").transform(pictures))
    val average = vectors(featurizer.transform(pictures))
    val maximum = vectors(featurizer.setPooling("max").transform(pictures))
    assert(maps.map(_.length).toSet === Set(16 * 12 * 8))
    maps.indices.foreach { i =>
      val channels = maps(i).grouped(8).toArray.transpose
      assert(close(average(i), channels.map(c => c.sum / c.length)), s"average of picture $i")
      assert(close(maximum(i), channels.map(_.max)), s"maximum of picture $i")
    }
    average.combinations(2).foreach(pair => assert(!close(pair.head, pair.last)))
  }

  test("the vector's size stands in the metadata of its column") {
    val sizes = Seq("avg" -> 8, "max" -> 8, "none" -> 1536)
    sizes.foreach { case (pooling, size) =>
      val field = featurizer.setPooling(pooling).transform(pictures).schema("out")
      assert(AttributeGroup.fromStructField(field).size === size)
    }
    assert(AttributeGroup.fromStructField(predictor.transform(pictures).schema("out")).size === 4)
    val schema = featurizer.setModelName("InceptionV3").transformSchema(pictures.schema)
    assert(AttributeGroup.fromStructField(schema("out")).size === 2048)
  }

  test("arrays hold the same numbers as vectors, as floats") {
    val arrays = featurizer.setOutputMode("array").transform(pictures)
    assert(arrays.schema("out").dataType === ArrayType(FloatType, containsNull = false))
    val numbers = arrays.select("out").collect().toSeq.map(_.getSeq[Float](0).map(_.toDouble).toArray)
    assert(numbers.map(_.toSeq) === vectors(featurizer.transform(pictures)).map(_.toSeq))
  }

  test("scores add up to one, and the best classes are the highest scores by name, best first") {
    val scores = vectors(predictor.transform(pictures))
    scores.foreach(row => assert(math.abs(row.sum - 1) < 1e-5))
    val decoded = predictor.setDecodePredictions(true).setTopK(3).transform(pictures)
    assert(decoded.schema(
      "out"
    ).dataType.catalogString === "array<struct<class:string,description:string,probability:float>>")
    decoded.select("out").collect().map(_.getSeq[Row](0)).zip(scores).foreach { case (classes, row) =>
      val best = row.zipWithIndex.sortBy(-_._1).take(3)
      assert(classes.map(c => (c.getString(0), c.getString(1))) === best.toSeq.map { case (_, i) =>
        names(i)
      })
      assert(close(classes.map(_.getFloat(2).toDouble).toArray, best.map(_._1)))
    }
  }

  test("labels of one's own replace the model's") {
    val own = Array("rot", "grün", "blau, \"hell\"", "weiß")
    val decoded = predictor.setDecodePredictions(true).setLabels(own).setTopK(9).transform(pictures)
    decoded.select("out").collect().map(_.getSeq[Row](0)).foreach { classes =>
      assert(classes.map(_.getString(1)).toSet === own.toSet)
    }
    assert(
      refusal(predictor.setLabels(Array("a", "b")).transform(pictures)) ===
        "The param labels has 2 names but the model Tiny has 4 classes: give one name per class."
    )
  }

  test("an image struct gives what its file gives") {
    val rows = (1 to 6).map(seed => Row(seed, Pictures.struct(Pictures.drawn(seed), s"$seed.png")))
    val schema = StructType(Seq(StructField("id", IntegerType), StructField("picture", Pictures.structType)))
    val structs = spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), schema)
    assert(vectors(featurizer.transform(structs)).map(_.toSeq) === vectors(
      featurizer.transform(pictures)
    ).map(_.toSeq))
  }

  test("partitions and batches change nothing") {
    val expected = vectors(featurizer.transform(pictures.coalesce(1))).map(_.toSeq)
    for (partitions <- Seq(1, 4); batch <- Seq(1, 4, 64)) {
      val result = featurizer.setBatchSize(batch).transform(pictures.repartition(partitions)).orderBy("id")
      assert(vectors(result).map(_.toSeq) === expected, s"$partitions partitions, batches of $batch")
    }
  }

  test("zero rows and empty partitions go through") {
    assert(featurizer.transform(pictures.limit(0)).count() === 0)
    assert(featurizer.transform(pictures.limit(0)).collect().isEmpty)
    val sparse = pictures.filter("id = 3").repartition(8)
    assert(vectors(featurizer.transform(sparse)).length === 1)
  }

  test("a bundle without an output, a broken bundle, a folder and a missing one are refused before any job") {
    val folder = newFolder()
    val broken = folder.resolve("broken.sparkdl")
    Files.write(broken, "not a zip".getBytes)
    assert(
      refusal(featurizer.setModelName(broken.toString).transform(pictures)) ===
        s"$broken is not a bundle of this project: it holds no manifest.json. Make one with python -m sparkdl export."
    )
    val missing = folder.resolve("missing.sparkdl").toString
    assert(
      refusal(featurizer.setModelName(missing).transform(pictures)) === s"The file $missing does not exist."
    )
    val directory = Files.createDirectory(folder.resolve("directory.sparkdl")).toString
    assert(refusal(
      featurizer.setModelName(directory).transform(pictures)
    ) === s"$directory is a folder, not a file.")
    assert(
      refusal(featurizer.setWeights("/w.keras").transform(pictures)) ===
        s"The bundle $tiny has weights of its own but the param weights is /w.keras: leave weights unset, " +
        "or give the name of a built-in model as modelName."
    )
  }
}
