"""Pictures to features."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only

from sparkdl import params
from sparkdl.transformers.picture_stage import PictureStage


class DeepImageFeaturizer(PictureStage, params.HasPooling):
    """Turns pictures into features by a pre-trained network, for another stage to learn from.

    The output is an MLlib vector (or `array<float>`) per picture: with pooling, one number per channel of the
    last feature map; without, the whole map, flattened in the order height, width, channel.
    """

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        modelName: str | None = None,
        weights: Any = "imagenet",
        pooling: str = "avg",
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        outputMode: str = "vector",
        batchSize: int = 32,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
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
        modelName: str | None = None,
        weights: Any = "imagenet",
        pooling: str = "avg",
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        outputMode: str = "vector",
        batchSize: int = 32,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        maxPixels: int = params.DEFAULT_MAX_PIXELS,
        applyExifOrientation: bool = False,
        fastDecode: bool = False,
    ) -> DeepImageFeaturizer:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def _task(self) -> dict[str, str]:
        return {"task": "features", "pooling": self.getPooling(), "topK": "1", "labels": ""}

    def _output_name(self) -> str:
        return {"avg": "featuresAvg", "max": "featuresMax", "none": "features"}[self.getPooling()]


DeepImageFeaturizer.__module__ = "sparkdl"
