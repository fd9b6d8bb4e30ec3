"""Pictures to features."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only

from sparkdl import params
from sparkdl._bundles import Asked
from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers.model_stage import Bundle
from sparkdl.transformers.picture_stage import PictureStage


class DeepImageFeaturizer(PictureStage, params.HasFeatureLayer, params.HasPooling):
    """Turns pictures into features by a pre-trained network, for another stage to learn from.

    The output is an MLlib vector (or `array<float>`) per picture: with pooling, one number per channel of the
    last feature map, or of the output of `featureLayer`; without, the whole map, flattened in the order
    height, width, channel.
    """

    _of_the_model = (*PictureStage._of_the_model, "featureLayer")

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        modelName: str | None = None,
        weights: Any = "imagenet",
        featureLayer: str | None = None,
        pooling: str = "avg",
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        outputMode: str = "vector",
        batchSize: int = 32,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
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
        modelName: str | None = None,
        weights: Any = "imagenet",
        featureLayer: str | None = None,
        pooling: str = "avg",
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        outputMode: str = "vector",
        batchSize: int = 32,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        expectedSha256: str | None = None,
        maxPixels: int = params.DEFAULT_MAX_PIXELS,
        applyExifOrientation: bool = False,
        fastDecode: bool = False,
    ) -> DeepImageFeaturizer:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def _asked(self, **choices: str) -> Asked:
        layer = self.getFeatureLayer() if self.isSet(self.featureLayer) else ""
        return super()._asked(feature_layer=layer, **choices)

    def _check_task(self, bundle: Bundle, sizes: dict[str, int]) -> None:
        super()._check_task(bundle, sizes)
        found = bundle.manifest.get("featureLayer")
        if self.isSet(self.featureLayer) and found != (asked := self.getFeatureLayer()):
            raise SparkDLValueError(
                f"The bundle {self.getModelName()} has the features of its layer {found or 'unknown'}, but "
                f"featureLayer is {asked}: leave featureLayer unset, or make the bundle of that layer "
                f"(python -m sparkdl export --feature-layer {asked})."
            )

    def _task(self) -> dict[str, str]:
        return {"task": "features", "pooling": self.getPooling(), "topK": "1", "labels": ""}

    def _output_name(self) -> str:
        return {"avg": "featuresAvg", "max": "featuresMax", "none": "features"}[self.getPooling()]


DeepImageFeaturizer.__module__ = "sparkdl"
