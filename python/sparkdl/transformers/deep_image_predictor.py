"""Pictures to classes."""

from __future__ import annotations

import json
from typing import Any

from pyspark import keyword_only

from sparkdl import params
from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers.model_stage import Bundle
from sparkdl.transformers.picture_stage import PictureStage


class DeepImagePredictor(PictureStage, params.HasDecodePredictions):
    """Classifies pictures with a pre-trained network.

    The output is the scores of all classes as an MLlib vector (or `array<float>`); or, with
    `decodePredictions`, the best classes by name, best first:
    `array<struct<class: string, description: string, probability: float>>`, where `class` is ImageNet's
    synset for the built-in models.
    """

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        modelName: str | None = None,
        weights: Any = "imagenet",
        decodePredictions: bool = False,
        topK: int = 5,
        labels: list[str] | None = None,
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
        decodePredictions: bool = False,
        topK: int = 5,
        labels: list[str] | None = None,
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
    ) -> DeepImagePredictor:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def _task(self) -> dict[str, str]:
        labels = self.getLabels()
        return {
            "task": "topK" if self.getDecodePredictions() else "predictions",
            "pooling": "none",
            "topK": str(self.getTopK()),
            "labels": json.dumps(labels) if labels else "",
        }

    def _output_name(self) -> str:
        return "predictions"

    def _output_kind(self) -> str:
        return "topK" if self.getDecodePredictions() else super()._output_kind()

    def _check_task(self, bundle: Bundle, sizes: dict[str, int]) -> None:
        super()._check_task(bundle, sizes)
        name, labels = bundle.manifest["name"], self.getLabels()
        classes = sizes[self._output_name()]
        if self.getDecodePredictions() and not labels and bundle.manifest["labels"] is None:
            raise SparkDLValueError(
                f"The model {name} does not name its {classes} classes: "
                "set labels, or decodePredictions to false."
            )
        if labels and len(labels) != classes:
            raise SparkDLValueError(
                f"The param labels has {len(labels)} names but the model {name} has {classes} classes: "
                "give one name per class."
            )


DeepImagePredictor.__module__ = "sparkdl"
