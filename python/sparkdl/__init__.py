"""Deep Learning Pipelines for Apache Spark: networks, Keras models and TensorFlow graphs as
MLlib stages.

Importing this loads neither TensorFlow nor Keras, starts no thread and no JVM.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparkdl.exceptions import SparkDLError, SparkDLValueError

if TYPE_CHECKING:
    from sparkdl._export import export
    from sparkdl.blocks import aggregate, mapBlocks, mapRows, reduceBlocks
    from sparkdl.estimators.keras_estimator import KerasEstimator
    from sparkdl.estimators.keras_image_file_estimator import KerasImageFileEstimator
    from sparkdl.estimators.models import KerasImageFileModel, KerasModel
    from sparkdl.graph.input import TFInputGraph
    from sparkdl.graph.pieces import imageInputPlaceholder
    from sparkdl.models import supportedModels
    from sparkdl.persistence import PipelineLoader
    from sparkdl.transformers.deep_image_featurizer import DeepImageFeaturizer
    from sparkdl.transformers.deep_image_predictor import DeepImagePredictor
    from sparkdl.transformers.keras_image_file_transformer import KerasImageFileTransformer
    from sparkdl.transformers.keras_transformer import KerasTransformer
    from sparkdl.transformers.tf_image_transformer import TFImageTransformer
    from sparkdl.transformers.tf_transformer import TFTransformer
    from sparkdl.udf import makeGraphUDF, registerKerasImageUDF, registerModelUDF, registerPipeline

__all__ = [
    "DeepImageFeaturizer",
    "DeepImagePredictor",
    "KerasEstimator",
    "KerasImageFileEstimator",
    "KerasImageFileModel",
    "KerasImageFileTransformer",
    "KerasModel",
    "KerasTransformer",
    "PipelineLoader",
    "SparkDLError",
    "SparkDLValueError",
    "TFImageTransformer",
    "TFInputGraph",
    "TFTransformer",
    "aggregate",
    "export",
    "imageInputPlaceholder",
    "makeGraphUDF",
    "mapBlocks",
    "mapRows",
    "reduceBlocks",
    "registerKerasImageUDF",
    "registerModelUDF",
    "registerPipeline",
    "supportedModels",
]

# Loaded when first asked for: they need pyspark, which a machine that only exports models may not have.
_PLACES = {
    "DeepImageFeaturizer": "sparkdl.transformers.deep_image_featurizer",
    "DeepImagePredictor": "sparkdl.transformers.deep_image_predictor",
    "KerasEstimator": "sparkdl.estimators.keras_estimator",
    "KerasImageFileEstimator": "sparkdl.estimators.keras_image_file_estimator",
    "KerasImageFileModel": "sparkdl.estimators.models",
    "KerasImageFileTransformer": "sparkdl.transformers.keras_image_file_transformer",
    "KerasModel": "sparkdl.estimators.models",
    "KerasTransformer": "sparkdl.transformers.keras_transformer",
    "PipelineLoader": "sparkdl.persistence",
    "TFImageTransformer": "sparkdl.transformers.tf_image_transformer",
    "TFInputGraph": "sparkdl.graph.input",
    "TFTransformer": "sparkdl.transformers.tf_transformer",
    "aggregate": "sparkdl.blocks",
    "export": "sparkdl._export",
    "imageInputPlaceholder": "sparkdl.graph.pieces",
    "makeGraphUDF": "sparkdl.udf",
    "mapBlocks": "sparkdl.blocks",
    "mapRows": "sparkdl.blocks",
    "reduceBlocks": "sparkdl.blocks",
    "registerKerasImageUDF": "sparkdl.udf",
    "registerModelUDF": "sparkdl.udf",
    "registerPipeline": "sparkdl.udf",
    "supportedModels": "sparkdl.models",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from sparkdl import _engine

        return _engine.version()
    if name not in _PLACES:
        raise AttributeError(f"module 'sparkdl' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES, "__version__"])
