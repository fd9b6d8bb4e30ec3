"""Keras files of estimators: found, kept with saved estimators, and written where trials leave theirs."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader
from pyspark.sql import SparkSession

from sparkdl import _bundles, _cache, params, persistence
from sparkdl._cache import cache_folder
from sparkdl.exceptions import SparkDLValueError

if TYPE_CHECKING:
    from sparkdl.estimators.keras_fit import KerasFit

_SUFFIXES = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True)
class KerasFile:
    """A whole Keras model on the driver's disk."""

    path: Path
    digest: str
    name: str
    """As the user knows it."""

    @property
    def suffix(self) -> str:
        """By which Keras tells formats."""
        return self.path.suffix


def found(model_file: Any, spark: SparkSession, expected_sha256: str) -> KerasFile:
    """The file that `modelFile` names, or one of the live model."""
    if params.is_keras_model(model_file):
        if expected_sha256:
            raise SparkDLValueError(
                "expectedSha256 is of a file, but modelFile is a live keras.Model: clear expectedSha256."
            )
        return _of_live(model_file, cache_folder(spark))
    if not model_file.endswith(_SUFFIXES):
        raise SparkDLValueError(
            f"modelFile must be a whole Keras model ({', '.join(_SUFFIXES)}), which can be trained, but was "
            f"{model_file}."
        )
    file = _cache.local_copy(model_file, spark, cache_folder(spark))
    digest = _bundles._digest_of(file)
    if expected_sha256 and digest != expected_sha256:
        raise SparkDLValueError(
            f"{model_file} has SHA-256 {digest}, but expectedSha256 is {expected_sha256}: it is another file "
            "or was changed. Give the right file, or change expectedSha256.",
            "InvalidModel",
        )
    return KerasFile(file, digest, model_file)


def _of_live(model: Any, folder: Path) -> KerasFile:
    digest = _bundles.source_digest(model)
    target = folder / "live" / f"{digest}.keras"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=_cache.made(target.parent)) as temporary:
            made = Path(temporary) / "model.keras"
            model.save(made)
            os.replace(made, target)
    return KerasFile(target, _bundles._digest_of(target), model.name)


class EstimatorWriter(persistence.StageWriter):
    """Saves an estimator: its Keras file in rows of Parquet, then its metadata."""

    def __init__(self, estimator: KerasFit) -> None:
        super().__init__(estimator)  # type: ignore[arg-type]
        self._estimator = estimator

    def saveImpl(self, path: str) -> None:
        """Writes the estimator's folder, on any file system that Spark writes."""
        spark, values, extra = self.sparkSession, self._estimator._plain_values(), None
        if self._estimator.isSet(self._estimator.modelFile):
            file = self._estimator._file(spark)
            persistence._write_bundle(spark, file.path, file.digest, os.path.join(path, "model"), file.suffix)
            extra = {"kerasFile": file.digest, "kerasSuffix": file.suffix}
            values["modelFile"] = file.name if file.name.endswith(_SUFFIXES) else str(file.path)
        DefaultParamsWriter.saveMetadata(self._estimator, path, spark, extraMetadata=extra, paramMap=values)


class EstimatorReader(MLReader[Any]):
    """Loads what `EstimatorWriter` saved."""

    def __init__(self, estimator_class: type[KerasFit]) -> None:
        super().__init__()
        self._class = estimator_class

    def load(self, path: str) -> Any:
        """The estimator, with the Keras file it was saved with."""
        spark = self.sparkSession
        metadata = DefaultParamsReader.loadMetadata(path, spark)
        expected = f"{self._class.__module__}.{self._class.__name__}"
        if metadata["class"] != expected:
            raise SparkDLValueError(f"{path} holds a {metadata['class']}, not a {expected}.")
        estimator = self._class()
        estimator._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(estimator, metadata)
        if digest := metadata.get("kerasFile"):
            suffix = metadata["kerasSuffix"]
            file = persistence._read_bundle(spark, digest, os.path.join(path, "model"), suffix)
            estimator._pin = KerasFile(file, digest, estimator.getModelFile())
        return estimator
