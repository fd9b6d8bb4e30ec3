"""TFImageTransformer: pictures through graphs made by TensorFlow, against TensorFlow on the same pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.ml import PipelineModel
from pyspark.ml.linalg import VectorUDT
from pyspark.sql.types import ArrayType, FloatType

from sparkdl import SparkDLValueError, TFImageTransformer, TFInputGraph, imageInputPlaceholder
from sparkdl.image import imageIO

tf = pytest.importorskip("tensorflow")

v1 = tf.compat.v1
SIZES = [(20, 30), (20, 30), (31, 17), (8, 8), (20, 30), (31, 17)]


def picture(index: int) -> Any:
    """RGB, of one of the sizes."""
    height, width = SIZES[index]
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 7 + index * 11, columns * 5, (rows + columns) * 3 + index]
    return np.stack(planes, -1).astype(np.uint8)


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PIXELS = [picture(index) for index in range(len(SIZES))]


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame(
        [(i, bytearray(png(pixels))) for i, pixels in enumerate(PIXELS)], "id int, image binary"
    ).repartition(2)


def graph_of(
    function: Any, channels: int | None = 3, dtype: Any = tf.float32, sides: Any = (None, None)
) -> Any:
    """A graph on pictures, with the outputs that a function names."""
    graph = tf.Graph()
    with graph.as_default():
        given = v1.placeholder(dtype, [None, *sides, channels], "pictures")
        names = []
        for name, tensor in function(given).items():
            tf.identity(tensor, name)
            names.append(name)
    return TFInputGraph.fromGraphDef(graph.as_graph_def(), ["pictures"], names)


def rows(stage: Any, frame: Any) -> list[Any]:
    return stage.transform(frame).orderBy("id").collect()


def edges(pictures: Any) -> dict[str, Any]:
    """Sobel edges of each channel: from pictures to pictures."""
    return {"edges": tf.reduce_sum(tf.abs(tf.image.sobel_edges(pictures)), -1)}


def test_an_image_to_image_graph_gives_pictures(frame, tmp_path):
    """Each of its own size; written as PNG they are those that TensorFlow makes."""
    graph = graph_of(lambda x: {"out": tf.cast(tf.clip_by_value(edges(x)["edges"], 0, 255), tf.uint8)})
    stage = TFImageTransformer(inputCol="image", outputCol="out", graph=graph, outputMode="image")
    for row, pixels in zip(rows(stage, frame), PIXELS, strict=True):
        expected = (
            edges(tf.constant(pixels[None], tf.float32))["edges"].numpy().clip(0, 255).astype(np.uint8)[0]
        )
        image = row["out"]
        assert (image["height"], image["width"], image["nChannels"]) == expected.shape
        assert image["mode"] == imageIO.imageTypeByName("CV_8UC3").ord
        file = tmp_path / f"{row['id']}.png"
        imageIO.imageStructToPIL(image).save(file)
        np.testing.assert_array_equal(np.asarray(Image.open(file)), expected)


@pytest.mark.parametrize(("order", "channels"), [("RGB", 3), ("BGR", 3), ("L", 1)])
def test_float_pictures_keep_numbers_and_order(frame, order, channels):
    graph = graph_of(lambda x: {"half": x / 2}, channels)
    stage = TFImageTransformer(
        inputCol="image", outputCol="out", graph=graph, outputMode="image", channelOrder=order
    )
    for row, pixels in zip(rows(stage, frame), PIXELS, strict=True):
        found = imageIO.imageStructToArray(row["out"])  # BGR, as Spark keeps it
        if order == "L":
            grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
            np.testing.assert_allclose(found[..., 0], grey / 2, atol=0.51)
        else:
            np.testing.assert_array_equal(found, pixels[..., ::-1].astype(np.float32) / 2)
        assert row["out"]["mode"] == imageIO.imageTypeByName(f"CV_32FC{channels}").ord


def test_a_detection_like_graph_with_four_outputs(frame):
    def detected(x: Any) -> dict[str, Any]:
        means = tf.reduce_mean(x, [1, 2])
        boxes = tf.stack([means, means + 1, means + 2, means + 3], -1)
        return {
            "boxes": boxes,
            "scores": means / 255,
            "classes": tf.argmax(means, 1),
            "count": tf.cast(tf.reduce_sum(tf.cast(means > 100, tf.int32), 1), tf.int32),
        }

    graph = graph_of(detected)
    mapping = {"boxes": "b", "scores": "s", "classes:0": "k", "count": "n"}
    stage = TFImageTransformer(inputCol="image", graph=graph, outputMapping=mapping, outputMode="array")
    result = stage.transform(frame)
    assert result.columns == ["id", "image", "b", "k", "n", "s"]
    floats = ArrayType(FloatType(), False)
    assert result.schema["b"].dataType == ArrayType(floats, False)
    for row, pixels in zip(result.orderBy("id").collect(), PIXELS, strict=True):
        expected = {
            name: value.numpy()[0] for name, value in detected(pixels[None].astype(np.float32)).items()
        }
        np.testing.assert_allclose(row["b"], expected["boxes"], rtol=1e-6)
        np.testing.assert_allclose(row["s"], expected["scores"], rtol=1e-6)
        assert (row["k"], row["n"]) == (expected["classes"], expected["count"])


def test_uint8_graphs_take_levels_and_pictures_may_be_resized(frame):
    graph = graph_of(lambda x: {"out": x}, dtype=tf.uint8, sides=(12, 10))
    stage = TFImageTransformer(inputCol="image", outputCol="out", graph=graph, scaleHint="SCALE_BILINEAR")
    result = stage.transform(frame)
    assert isinstance(result.schema["out"].dataType, VectorUDT)
    assert result.schema["out"].metadata["ml_attr"]["num_attrs"] == 12 * 10 * 3
    for row, pixels in zip(result.orderBy("id").collect(), PIXELS, strict=True):
        resized = Image.fromarray(pixels).resize((10, 12), Image.Resampling.BILINEAR)
        found = row["out"].toArray().reshape(12, 10, 3)
        np.testing.assert_allclose(found, np.asarray(resized), atol=1)


def test_input_size_fills_in_what_the_graph_leaves_open(frame):
    graph = graph_of(lambda x: {"out": tf.shape(x)[1:3][None] + tf.zeros([tf.shape(x)[0], 2], tf.int32)})
    stage = TFImageTransformer(inputCol="image", outputCol="out", graph=graph, outputMode="array")
    assert [tuple(row["out"]) for row in rows(stage, frame)] == SIZES
    assert {tuple(row["out"]) for row in rows(stage.setInputSize([9, 7]), frame)} == {(9, 7)}


def test_the_original_readme(spark, frame):
    """A `tf.Graph` of TensorFlow 1 as it is, its input made by imageInputPlaceholder."""
    graph = tf.Graph()
    with graph.as_default():
        image = imageInputPlaceholder(nChannels=3)
        output = tf.reduce_max(image, [1, 2], name="largest")
    stage = TFImageTransformer(
        inputCol="image", outputCol="out", graph=graph, outputTensor=output, channelOrder="BGR"
    )
    for row, pixels in zip(rows(stage, frame), PIXELS, strict=True):
        np.testing.assert_array_equal(row["out"].toArray(), pixels.max((0, 1))[::-1])


def test_structs_and_files_give_the_same(spark, frame, tmp_path):
    (tmp_path / "in").mkdir()
    for index, pixels in enumerate(PIXELS):
        (tmp_path / "in" / f"{index}.png").write_bytes(png(pixels))
    images = spark.read.format("image").load(str(tmp_path / "in"))
    graph = graph_of(lambda x: {"out": tf.reduce_mean(x, [1, 2])})
    stage = TFImageTransformer(inputCol="image", outputCol="out", graph=graph)
    found = {Path(r["image"]["origin"]).stem: list(r["out"]) for r in stage.transform(images).collect()}
    expected = {str(row["id"]): list(row["out"]) for row in rows(stage, frame)}
    assert found == expected


def test_broken_pictures_and_nulls_keep_their_rows(spark):
    data = [(0, bytearray(png(PIXELS[0]))), (1, None), (2, bytearray(b"no picture")), (3, bytearray(b""))]
    frame = spark.createDataFrame(data, "id int, image binary").coalesce(1)
    graph = graph_of(lambda x: {"out": x})
    for mode in ("image", "array", "vector"):
        stage = TFImageTransformer(
            inputCol="image", outputCol="out", graph=graph, outputMode=mode, errorCol="why"
        )
        found = rows(stage, frame)
        assert [row["out"] is None for row in found] == [False, True, True, True]
        assert [row["why"] is None for row in found] == [True, False, False, False]
        assert stage.setHandleInvalid("skip").transform(frame).count() == 1


def test_a_saved_stage_carries_its_graph(spark, frame, tmp_path):
    graph = tf.Graph()
    with graph.as_default():
        tf.reduce_mean(imageInputPlaceholder(3), [1, 2], name="means")
    stage = TFImageTransformer(inputCol="image", outputCol="out", graph=graph, outputTensor="means")
    expected = [row["out"] for row in rows(stage, frame)]
    PipelineModel([stage]).write().save(str(tmp_path / "saved"))
    loaded = PipelineModel.load(str(tmp_path / "saved"))
    assert [row["out"] for row in rows(loaded, frame)] == expected


def several() -> Any:
    return graph_of(lambda x: {"one": tf.reduce_mean(x, [1, 2]), "two": x})


REFUSALS: dict[str, tuple[Any, str]] = {
    "which output": (
        lambda: {"graph": several()},
        "has 2 outputs (one:0, two:0): set outputTensor or outputMapping",
    ),
    "no such output": (
        lambda: {"graph": several(), "outputTensor": "on"},
        "no output on; the nearest: one:0",
    ),
    "no such input": (
        lambda: {"graph": several(), "outputTensor": "one", "inputTensor": "picture"},
        "no input picture; the nearest: pictures:0",
    ),
    "channels": (
        lambda: {"graph": several(), "outputTensor": "one", "channelOrder": "L"},
        "the shape [any, any, 3], but channelOrder L has 1: set channelOrder",
    ),
    "not a picture out": (
        lambda: {"graph": several(), "outputTensor": "one", "outputMode": "image"},
        "the shape [3] and the type float32, but outputMode image needs [height, width, 1, 3 or 4]",
    ),
    "both": (
        lambda: {"graph": several(), "outputTensor": "one", "outputMapping": {"one": "out"}},
        "takes either outputTensor or outputMapping, but both are set",
    ),
    "size": (
        lambda: {"graph": graph_of(lambda x: {"out": x}, sides=(5, 6)), "inputSize": [4, 6]},
        "the shape [5, 6, 3], but inputSize is 4 x 6: leave inputSize unset",
    ),
    "one side": (
        lambda: {"graph": graph_of(lambda x: {"out": x}, sides=(5, None))},
        "the shape [5, any, 3], with one side open: set inputSize",
    ),
    "type": (
        lambda: {"graph": graph_of(lambda x: {"out": x}, dtype=tf.int32)},
        "the type int32, but pictures need [height, width, channels] of float32 or uint8: use TFTransformer",
    ),
    "file": (
        lambda: {"graph": "graph.pb"},
        "a tf.Graph or the path of a bundle (*.sparkdl) but was graph.pb",
    ),
    "what of the graph": (lambda: {"graph": tf.Graph()}, "A tf.Graph needs outputTensor or outputMapping"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_refused_before_a_job(frame, runs_no_job, case):
    params, expected = REFUSALS[case]
    with pytest.raises(SparkDLValueError) as refused:
        TFImageTransformer(inputCol="image", **params()).transform(frame)
    assert expected in str(refused.value)


def test_a_column_of_text_is_refused(spark, runs_no_job):
    frame = spark.createDataFrame([], "image string")
    with pytest.raises(SparkDLValueError, match="Column image must be of type binary or image"):
        TFImageTransformer(inputCol="image", graph=several(), outputTensor="one").transform(frame)
