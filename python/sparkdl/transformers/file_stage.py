"""What the stages for whole Keras models share: the model's file, and the bundle on tensors it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pyspark.ml.param import Param
from pyspark.sql import SparkSession

from sparkdl import _bundles, params
from sparkdl._tensor import Tensor, tensors
from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers.model_stage import Bundle, ModelStage

_KERAS_FILES = (".keras", ".h5", ".hdf5")


class FileStage(ModelStage, params.HasModelFile):
    """A stage that runs a model from a Keras file, a bundle on tensors, or a live model."""

    _of_the_model: ClassVar[tuple[str, ...]] = ("modelFile", "expectedSha256")
    _live = "modelFile"

    def _needed(self) -> list[Param[Any]]:
        return [self.modelFile]

    def _check_model(self) -> None:
        file = self.getModelFile()
        known = (*_KERAS_FILES, ".sparkdl")
        if self._pinned() is None and isinstance(file, str) and not file.endswith(known):
            raise SparkDLValueError(
                f"modelFile must be a Keras model ({', '.join(_KERAS_FILES)}) or a bundle (*.sparkdl) "
                f"but was {file}."
            )

    def _tensors(self, bundle: Bundle) -> tuple[list[Tensor], list[Tensor]]:
        """The model's inputs and outputs."""
        if bundle.is_for_pictures():
            raise SparkDLValueError(
                f"{type(self).__name__} takes models on tensors, but {self.getModelFile()} is a bundle for "
                "pictures: use it as modelName of DeepImageFeaturizer or DeepImagePredictor."
            )
        return tensors(bundle.manifest)

    def _resolve(self, spark: SparkSession) -> Path:
        return _bundles.resolve_file(self.getModelFile(), spark, asked=self._asked())

    def _make(self, spark: SparkSession) -> None:
        if not str(self.getModelFile()).endswith(".sparkdl"):
            self._resolve(spark)

    def _saves_bundle(self) -> bool:
        return self.isSet(self.modelFile)

    def _values_of(self, bundle: Path) -> dict[str, Any]:
        return {"modelFile": f"file:{bundle}"}
