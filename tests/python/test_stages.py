"""What the stages compute, against Pillow and TensorFlow; and what becomes of the other columns."""

import io

import numpy as np
import pytest
from PIL import Image
from pyspark.ml.linalg import DenseVector, VectorUDT
from pyspark.sql.types import ArrayType, FloatType, StructType

from pictures import encoded, image_struct, picture, reference
from sparkdl import DeepImageFeaturizer, DeepImagePredictor
from sparkdl.transformers.picture_columns import CLASSES_TYPE, IMAGE_TYPE

EXACT = 1e-5  # the same pixels through the same graph
ONE_LEVEL = 0.03  # resized or decoded by another library: pixels within one level


@pytest.fixture(scope="module")
def small(spark):
    """Twelve pictures of the network's own size, in three partitions."""
    pictures = [picture(seed) for seed in range(12)]
    rows = [(seed, encoded(pixels)) for seed, pixels in enumerate(pictures)]
    return pictures, spark.createDataFrame(rows, "id int, picture binary").repartition(3, "id")


def values(frame, column="out"):
    return [row[column] for row in frame.orderBy("id").collect()]


def featurizer(tiny, **params):
    return DeepImageFeaturizer(inputCol="picture", outputCol="out", modelName=tiny, **params)


def predictor(tiny, **params):
    return DeepImagePredictor(inputCol="picture", outputCol="out", modelName=tiny, **params)


@pytest.mark.parametrize(
    ("pooling", "output"), [("avg", "featuresAvg"), ("max", "featuresMax"), ("none", "features")]
)
def test_features_are_the_networks_own(small, tiny, pooling, output):
    pictures, frame = small
    expected = reference(pictures)[output].reshape(len(pictures), -1)
    assert np.ptp(expected, axis=0).max() > 0.01 * np.abs(expected).max(), "the pictures must differ"
    found = values(featurizer(tiny, pooling=pooling).transform(frame))
    assert all(isinstance(value, DenseVector) for value in found)
    np.testing.assert_allclose(np.stack([v.toArray() for v in found]), expected, atol=EXACT)


def test_scores_are_the_networks_own(small, tiny):
    pictures, frame = small
    found = np.stack([v.toArray() for v in values(predictor(tiny).transform(frame))])
    np.testing.assert_allclose(found, reference(pictures)["predictions"], atol=EXACT)


def test_the_image_struct_gives_what_the_file_gives(spark, small, tiny):
    pictures, frame = small
    rows = [(seed, image_struct(pixels)) for seed, pixels in enumerate(pictures)]
    structs = spark.createDataFrame(rows, StructType().add("id", "integer").add("picture", IMAGE_TYPE))
    assert values(featurizer(tiny).transform(structs)) == values(featurizer(tiny).transform(frame))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_other_sizes_are_resized_by_the_box_filter(spark, tiny, form):
    pictures = [picture(seed, 97, 61) for seed in range(4)]
    rows = [(seed, encoded(pixels, form)) for seed, pixels in enumerate(pictures)]
    frame = spark.createDataFrame(rows, "id int, picture binary")
    if form == "JPEG":
        pictures = [np.asarray(Image.open(io.BytesIO(file))) for _, file in rows]
    found = np.stack([v.toArray() for v in values(featurizer(tiny).transform(frame))])
    np.testing.assert_allclose(found, reference(pictures)["featuresAvg"], atol=ONE_LEVEL)


def test_array_mode_gives_floats(small, tiny):
    pictures, frame = small
    result = featurizer(tiny, outputMode="array").transform(frame)
    assert result.schema["out"].dataType == ArrayType(FloatType(), False)
    np.testing.assert_allclose(np.array(values(result)), reference(pictures)["featuresAvg"], atol=EXACT)


def test_a_vector_column_knows_its_size(small, tiny):
    _, frame = small
    field = featurizer(tiny, pooling="none").transform(frame).schema["out"]
    assert field.dataType == VectorUDT()
    assert field.metadata == {"ml_attr": {"num_attrs": 16 * 12 * 8}}


def test_decoded_predictions_are_named_best_first(small, tiny):
    pictures, frame = small
    result = predictor(tiny, decodePredictions=True, topK=3).transform(frame)
    assert result.schema["out"].dataType == CLASSES_TYPE
    labels = [("c0", "circle"), ("c1", "square"), ("c2", "stripe"), ("c3", "cross")]
    for scores, best in zip(reference(pictures)["predictions"], values(result), strict=True):
        order = np.argsort(-scores)[:3]
        assert [(c["class"], c["description"]) for c in best] == [labels[i] for i in order]
        np.testing.assert_allclose([c["probability"] for c in best], scores[order], atol=EXACT)


def test_labels_of_the_caller_take_the_place_of_the_models(small, tiny):
    pictures, frame = small
    names = ["ape", "bee", "cat", "dog"]
    result = predictor(tiny, decodePredictions=True, topK=1, labels=names).transform(frame)
    best = [row[0]["description"] for row in values(result)]
    assert best == [names[i] for i in reference(pictures)["predictions"].argmax(1)]


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_the_batch_size_changes_nothing(small, tiny, batch_size):
    _, frame = small
    expected = [v.toArray() for v in values(featurizer(tiny).transform(frame))]
    found = [v.toArray() for v in values(featurizer(tiny, batchSize=batch_size).transform(frame))]
    np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=EXACT)


def test_no_rows_and_empty_partitions_are_fine(spark, small, tiny):
    _, frame = small
    assert featurizer(tiny).transform(frame.limit(0)).collect() == []
    sparse = frame.where("id = 3").repartition(8, "id")
    assert len(values(featurizer(tiny).transform(sparse))) == 1


def test_transform_itself_runs_nothing(small, tiny, runs_no_job):
    _, frame = small
    featurizer(tiny).transform(frame)


def test_params_of_one_transform_hold_for_that_one(small, tiny):
    _, frame = small
    stage = featurizer(tiny)
    result = stage.transform(frame, {stage.outputCol: "other", stage.pooling: "max"})
    assert result.columns == ["id", "picture", "other"]
    assert (stage.getOutputCol(), stage.getPooling()) == ("out", "avg")


def test_a_stream_is_transformed(spark, tiny, tmp_path):
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(encoded(picture(seed)))
    schema = "path string, modificationTime timestamp, length bigint, content binary"
    stream = spark.readStream.format("binaryFile").schema(schema).load(str(tmp_path / "*.png"))
    stage = DeepImageFeaturizer(inputCol="content", outputCol="out", modelName=tiny)
    result = stage.transform(stream.select("path", "content"))
    assert result.isStreaming
    writer = result.writeStream.format("memory").queryName("stream_of_pictures")
    query = writer.trigger(availableNow=True).start()
    query.awaitTermination()
    found = [row["out"].toArray() for row in spark.table("stream_of_pictures").orderBy("path").collect()]
    np.testing.assert_allclose(
        np.stack(found), reference([picture(seed) for seed in range(3)])["featuresAvg"], atol=EXACT
    )
