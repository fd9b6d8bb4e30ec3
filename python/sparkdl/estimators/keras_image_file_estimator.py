"""Keras models trained on picture files."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from typing import Any
from weakref import WeakKeyDictionary

from pyspark import keyword_only
from pyspark.ml.param.shared import HasInputCol
from pyspark.sql import DataFrame, SparkSession

from sparkdl import _engine, _loading, params
from sparkdl.estimators import shards
from sparkdl.estimators.keras_fit import Data, KerasFit
from sparkdl.estimators.labels import Labels
from sparkdl.estimators.models import KerasImageFileModel
from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers import columns
from sparkdl.transformers.model_stage import Plan
from sparkdl.transformers.picture_stage import picture_options

_loaders: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Names of functions that have none that could be imported: of this process alone."""


class KerasImageFileEstimator(
    KerasFit,
    HasInputCol,
    params.HasInputSize,
    params.HasChannelOrder,
    params.HasPreprocessing,
    params.HasScaleHint,
    params.HasResizeMode,
    params.HasImageOutputMode,
    params.HasPictureOptions,
    params.HasImageLoader,
):
    """Trains a Keras model of one output on picture files that a column names by their URIs.

    `fit` gives a `KerasImageFileModel`; with a list of param maps, and under `CrossValidator` and
    `TrainValidationSplit`, each trial runs in a Spark task and a process of its own. Pictures are decoded
    and resized once, into `workDir`, by what is in them: folds and later fits take them from there.

    Labels (`labelCol`) are indexes of classes, whole numbers or strings (which are indexed), one number an
    output as array or vector (one-hot), or values.
    """

    _model_class = KerasImageFileModel

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        outputMode: str = "vector",
        labelCol: str = "label",
        modelFile: Any = None,
        imageLoader: Any = None,
        kerasOptimizer: str = "adam",
        kerasLoss: str | None = None,
        kerasFitParams: dict[str, Any] | None = None,
        kerasMetrics: list[str] | None = None,
        trainableLayers: list[str] | None = None,
        learningRate: float | None = None,
        epochs: int = 1,
        batchSize: int = 32,
        validationFraction: float = 0.0,
        earlyStopping: Any = None,
        classWeights: Any = None,
        kerasCallbacks: list[str] | None = None,
        seed: int | None = None,
        customObjects: dict[str, str] | None = None,
        weightCol: str | None = None,
        predictionCol: str = "prediction",
        labelIndexCol: str = "labelIndex",
        inputSize: list[int] | None = None,
        channelOrder: str = "RGB",
        preprocessing: str = "none",
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        handleInvalid: str = "skip",
        parallelism: int | None = None,
        numWorkers: int = 1,
        failMode: str = "fail",
        workDir: str | None = None,
        expectedSha256: str | None = None,
        maxPixels: int = params.DEFAULT_MAX_PIXELS,
        applyExifOrientation: bool = False,
        fastDecode: bool = False,
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        outputMode: str = "vector",
        labelCol: str = "label",
        modelFile: Any = None,
        imageLoader: Any = None,
        kerasOptimizer: str = "adam",
        kerasLoss: str | None = None,
        kerasFitParams: dict[str, Any] | None = None,
        kerasMetrics: list[str] | None = None,
        trainableLayers: list[str] | None = None,
        learningRate: float | None = None,
        epochs: int = 1,
        batchSize: int = 32,
        validationFraction: float = 0.0,
        earlyStopping: Any = None,
        classWeights: Any = None,
        kerasCallbacks: list[str] | None = None,
        seed: int | None = None,
        customObjects: dict[str, str] | None = None,
        weightCol: str | None = None,
        predictionCol: str = "prediction",
        labelIndexCol: str = "labelIndex",
        inputSize: list[int] | None = None,
        channelOrder: str = "RGB",
        preprocessing: str = "none",
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        handleInvalid: str = "skip",
        parallelism: int | None = None,
        numWorkers: int = 1,
        failMode: str = "fail",
        workDir: str | None = None,
        expectedSha256: str | None = None,
        maxPixels: int = params.DEFAULT_MAX_PIXELS,
        applyExifOrientation: bool = False,
        fastDecode: bool = False,
    ) -> KerasImageFileEstimator:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def setInputCol(self, value: str) -> KerasImageFileEstimator:
        """Sets the column of URIs of picture files (strings)."""
        return self._set(inputCol=value)

    def _data(self, plan: Plan, facts: dict[str, Any], spark: SparkSession) -> Data:
        loads = self.isSet(self.imageLoader)
        height, width, channels = facts["inputs"][0]["shape"]
        if self.isSet(self.inputSize):
            height, width = self.getInputSize()
        if height is None or width is None:
            raise SparkDLValueError(f"The model {facts['name']} takes pictures of any size: set inputSize.")
        shape = (int(height), int(width), int(channels))
        order = str(plan.options.get("channelOrder", "RGB"))
        normalization = str(plan.options.get("normalization", "none"))
        size = {"height": str(height), "width": str(width)}
        loader = plan.source if isinstance(plan.source, _loading.Loaded) else None
        pictures = shards.Pictures(
            loader=loader,
            loader_name=_loader_name(self.getImageLoader()) if loads else "",
            options=tuple({**picture_options(self), **size}.items()),
            shape=shape,
            order=order,
            threads=_engine.configured_threads(spark),
        )
        one = {"dtype": pictures.dtype, "shape": list(shape)}
        if not loads:
            one |= {"channelOrder": order, "normalization": normalization}
        return Data(inputs=(one,), key=(pictures.digest(), self.getInputCol()), source=pictures)

    def _select(
        self, dataset: DataFrame, data: Data, found: Labels, folder: str, slots: int
    ) -> shards.Selected:
        uri = columns.named(self.getInputCol()).alias("_2")
        rows = dataset.select(uri, *self._label_and_weight(dataset, found))
        return shards.select_pictures(rows, data.source, folder, slots, self._label_type(found))

    def _plain_values(self) -> dict[str, Any]:
        values = super()._plain_values()
        if self.isSet(self.imageLoader):
            values["imageLoader"] = _loading.name_of(self.getImageLoader())
        return values


def _loader_name(loader: Any) -> str:
    """What tells functions apart: the importable name and its source, or this very object."""
    try:
        name = _loading.name_of(loader)
        source = inspect.getsource(_loading.function_of(loader))
        return f"{name} {hashlib.sha256(source.encode()).hexdigest()}"
    except (SparkDLValueError, OSError, TypeError):
        return _loaders.setdefault(loader, uuid.uuid4().hex)


KerasImageFileEstimator.__module__ = "sparkdl"
