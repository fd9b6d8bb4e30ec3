"""The params of the stages: names, docs, defaults and checks as in the Scala traits of `sparkdl.params`."""

from sparkdl.params.checks import is_keras_model
from sparkdl.params.graphs import HasCastInputs, HasTensorMappings, HasTFInputGraph
from sparkdl.params.model import (
    HasExpectedSha256,
    HasFeatureLayer,
    HasInputNames,
    HasModelFile,
    HasModelName,
    HasOutputNames,
    HasPooling,
    HasWeights,
)
from sparkdl.params.pictures import (
    DEFAULT_MAX_PIXELS,
    SCALE_HINTS,
    HasChannelOrder,
    HasImageLoader,
    HasInputSize,
    HasPictureOptions,
    HasPreprocessing,
    HasResizeMode,
    HasScaleHint,
)
from sparkdl.params.rows import (
    HasBatchSize,
    HasDecodePredictions,
    HasErrorCol,
    HasHandleInvalid,
    HasHandleInvalidRow,
    HasImageOutputMode,
    HasOutputMode,
    HasTensorOutputMode,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SCALE_HINTS",
    "HasBatchSize",
    "HasCastInputs",
    "HasChannelOrder",
    "HasDecodePredictions",
    "HasErrorCol",
    "HasExpectedSha256",
    "HasFeatureLayer",
    "HasHandleInvalid",
    "HasHandleInvalidRow",
    "HasImageLoader",
    "HasImageOutputMode",
    "HasInputNames",
    "HasInputSize",
    "HasModelFile",
    "HasModelName",
    "HasOutputMode",
    "HasOutputNames",
    "HasPictureOptions",
    "HasPooling",
    "HasPreprocessing",
    "HasResizeMode",
    "HasScaleHint",
    "HasTFInputGraph",
    "HasTensorMappings",
    "HasTensorOutputMode",
    "HasWeights",
    "is_keras_model",
]
