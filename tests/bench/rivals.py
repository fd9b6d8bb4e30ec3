"""What people write by hand today, each as well as it can be written; run in Spark's workers.

Every way turns one column into the column `scores`, array<float>. Models are opened once per worker. Its
functions are importable there, since a cached one cannot travel by value.
"""

import functools
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

SIDE = 224


@functools.cache
def keras_model(path: str, threads: int):  # type: ignore[no-untyped-def]
    import keras
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    return keras.models.load_model(path, compile=False)


def pillow(content: bytes) -> np.ndarray:
    from PIL import Image

    picture = Image.open(io.BytesIO(content)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float32) / 127.5 - 1


def keras_predict(photos: DataFrame, model: str, threads: int, batch: int) -> DataFrame:
    """pandas UDF over batches + Pillow + `keras.predict`."""

    @F.pandas_udf("array<float>")
    def scores(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        opened = keras_model(model, threads)
        for contents in batches:
            pictures = np.stack([pillow(content) for content in contents])
            yield pd.Series(list(opened.predict(pictures, batch_size=batch, verbose=0)))

    return photos.select(scores("content").alias("scores"))


@functools.cache
def keras_predictor(model: str, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    opened = keras_model(model, 0)

    def predict(inputs: np.ndarray) -> np.ndarray:  # Spark counts its parameters.
        return opened.predict(inputs, batch_size=batch, verbose=0)

    return predict


def keras_rows(frame: DataFrame, model: str, batch: int) -> DataFrame:
    """Spark's `predict_batch_udf` on rows of 1,000 numbers."""
    score = predict_batch_udf(
        functools.partial(keras_predictor, model, batch),
        return_type=ArrayType(FloatType()),
        batch_size=batch,
        input_tensor_shapes=[[1000]],
    )
    return frame.select(score("numbers").alias("scores"))


def keras_files(frame: DataFrame, model: str, batch: int) -> DataFrame:
    """pandas UDF over names of files + Pillow + `keras.predict`."""

    @F.pandas_udf("array<float>")
    def scores(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        predict = keras_predictor(model, batch)
        for uris in batches:
            yield pd.Series(list(predict(np.stack([pillow(Path(uri).read_bytes()) for uri in uris]))))

    return frame.select(scores("uri").alias("scores"))


@functools.cache
def onnx_session(path: str, threads: int):  # type: ignore[no-untyped-def]
    import cv2
    import onnxruntime

    cv2.setNumThreads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def opencv(content: memoryview) -> np.ndarray:
    import cv2

    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    resized = cv2.resize(decoded, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)


def onnx_batches(
    batches: Iterator[pa.RecordBatch], model: str, threads: int, batch: int
) -> Iterator[pa.RecordBatch]:
    session = onnx_session(model, threads)
    for rows in batches:
        for start in range(0, rows.num_rows, batch):
            contents = rows.column(0).slice(start, batch)
            pictures = np.stack([opencv(content.as_buffer()) for content in contents])
            images = np.multiply(pictures, np.float32(1 / 127.5), dtype=np.float32) - np.float32(1)
            (scores,) = session.run(None, {"image": images})
            offsets = pa.array(np.arange(0, scores.size + 1, scores.shape[1], dtype=np.int32))
            column = pa.ListArray.from_arrays(offsets, pa.array(scores.ravel()))
            yield pa.RecordBatch.from_arrays([column], ["scores"])


def onnx_runtime(photos: DataFrame, model: str, threads: int, batch: int) -> DataFrame:
    """`mapInArrow` + OpenCV + ONNX Runtime."""
    run = functools.partial(onnx_batches, model=model, threads=threads, batch=batch)
    return photos.select("content").mapInArrow(run, "scores array<float>")
