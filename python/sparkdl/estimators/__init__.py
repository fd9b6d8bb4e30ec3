"""Estimators that fine-tune Keras models on the rows of a DataFrame, alone or in a search."""

from sparkdl.estimators.keras_estimator import KerasEstimator
from sparkdl.estimators.keras_image_file_estimator import KerasImageFileEstimator
from sparkdl.estimators.models import KerasImageFileModel, KerasModel

__all__ = ["KerasEstimator", "KerasImageFileEstimator", "KerasImageFileModel", "KerasModel"]
