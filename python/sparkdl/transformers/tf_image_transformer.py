"""Pictures through a TensorFlow graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from pyspark import keyword_only
from pyspark.ml.param import Param
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from sparkdl import _batches, _bundles, params
from sparkdl._tensor import Tensor, check_safe, tensors
from sparkdl.exceptions import SparkDLValueError
from sparkdl.graph.input import TFInputGraph, chosen
from sparkdl.params.graphs import IMAGE_INPUT
from sparkdl.transformers import columns, picture_columns, tensor_columns
from sparkdl.transformers.model_stage import Bundle, ModelStage, Plan
from sparkdl.transformers.picture_stage import picture_options

_read: WeakKeyDictionary[Any, tuple[Any, TFInputGraph]] = WeakKeyDictionary()
"""What was read of a `tf.Graph` that lives still, with its version and tensors then."""


class TFImageTransformer(
    ModelStage,
    HasInputCol,
    HasOutputCol,
    params.HasGraph,
    params.HasAllowUnsafeOps,
    params.HasTensors,
    params.HasOutputMapping,
    params.HasChannelOrder,
    params.HasInputSize,
    params.HasScaleHint,
    params.HasResizeMode,
    params.HasGraphOutputMode,
    params.HasPictureOptions,
):
    """Runs pictures through a TensorFlow graph.

    The graph takes one tensor of pictures `[rows, height, width, 1 or 3]`, float32 or uint8, of samples from
    0 to 255 in `channelOrder`. Pictures are resized to `inputSize`, or to the size that the graph has; where
    both are open each keeps its size, and pictures of one size that follow each other run together.
    The input column holds encoded files (binary) or Spark's image struct.

    An output becomes an MLlib vector, arrays nested by the shape of a row, or Spark's image struct, of the
    tensor's own height, width and channels (1, 3 or 4; uint8 or float32).
    """

    _of_the_model: ClassVar[tuple[str, ...]] = ("graph", "inputTensor", "outputTensor", "expectedSha256")
    _live = "graph"

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        graph: Any = None,
        inputTensor: Any = None,
        outputTensor: Any = None,
        outputMapping: dict[str, str] | None = None,
        channelOrder: str = "RGB",
        outputMode: str = "vector",
        inputSize: list[int] | None = None,
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        batchSize: int = 32,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        expectedSha256: str | None = None,
        allowUnsafeOps: bool = False,
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
        graph: Any = None,
        inputTensor: Any = None,
        outputTensor: Any = None,
        outputMapping: dict[str, str] | None = None,
        channelOrder: str = "RGB",
        outputMode: str = "vector",
        inputSize: list[int] | None = None,
        scaleHint: str = "SCALE_AREA_AVERAGING",
        resizeMode: str = "stretch",
        batchSize: int = 32,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        expectedSha256: str | None = None,
        allowUnsafeOps: bool = False,
        maxPixels: int = params.DEFAULT_MAX_PIXELS,
        applyExifOrientation: bool = False,
        fastDecode: bool = False,
    ) -> TFImageTransformer:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def setInputCol(self, value: str) -> TFImageTransformer:
        """Sets the column of pictures: encoded files (binary) or Spark's image struct."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> TFImageTransformer:
        """Sets the column for the graph's output."""
        return self._set(outputCol=value)

    def _needed(self) -> list[Param[Any]]:
        return [self.inputCol, self.graph]

    def _outputs(self) -> list[str]:
        if self.isSet(self.outputMapping):
            return sorted(self.getOutputMapping().values())
        return [self.getOutputCol()]

    def _check_columns(self, schema: StructType) -> None:
        picture_columns.check_input(schema, self.getInputCol())
        columns.check_new(schema, self._new_column_names(self._outputs()))

    def _check_model(self) -> None:
        if self.isSet(self.outputMapping):
            for param in (self.outputCol, self.outputTensor):
                if self.isSet(param):
                    raise SparkDLValueError(
                        f"TFImageTransformer takes either {param.name} or outputMapping, but both are set: "
                        "clear one of them."
                    )
        graph = self.getGraph()
        if self._pinned() is None and isinstance(graph, str) and not graph.endswith(".sparkdl"):
            raise SparkDLValueError(
                f"graph must be a TFInputGraph, a tf.Graph or the path of a bundle (*.sparkdl) but was "
                f"{graph}: read it with TFInputGraph.fromGraphDef or another of its methods."
            )

    def _plan(self, schema: StructType, bundle: Bundle) -> Plan:
        model = str(bundle.manifest["name"])
        if bundle.is_for_pictures():
            raise SparkDLValueError(
                f"TFImageTransformer takes graphs on tensors, but {self.getGraph()} is a network for "
                "pictures: use it as modelName of DeepImageFeaturizer or DeepImagePredictor."
            )
        check_safe(bundle.manifest, self.getAllowUnsafeOps())
        inputs, known = tensors(bundle.manifest)
        self._check_input(inputs, model)
        outputs = self._taken(known, model)
        for tensor in (*inputs, *outputs):
            tensor.check_rows(f"the graph {model}")
        mode = self.getOutputMode()
        tensor_columns.check_mode(outputs, mode, model)
        for tensor in outputs:
            _check_output(tensor, mode, model)
        height, width = self.getInputSize() if self.isSet(self.inputSize) else (0, 0)
        name = self.getInputCol()
        column = schema.names.index(name)
        named = list(zip(self._outputs(), outputs, strict=True))
        if mode == "image":
            fields = [picture_columns.output_field(new, mode, 0) for new, _ in named]
        else:
            fields = [tensor_columns.output_field(new, mode, tensor) for new, tensor in named]
        return Plan(
            source=_batches.Columns((column,)),
            options={
                "task": "images",
                "allowUnsafeOps": str(self.getAllowUnsafeOps()).lower(),
                "outputs": json.dumps([tensor.name for tensor in outputs]),
                "outputMode": "image" if mode == "image" else "values",
                "channelOrder": self.getChannelOrder(),
                "height": str(height),
                "width": str(width),
                **picture_options(self),
            },
            fields=fields,
            kinds=[{"array": "same"}.get(mode, mode)] * len(outputs),
            numbers=max(tensor_columns.numbers(tensor) or 1 for tensor in outputs),
            named_by=(name,) if picture_columns.is_image(schema[column].dataType) else (),
        )

    def _check_input(self, inputs: list[Tensor], model: str) -> None:
        if len(inputs) != 1:
            names = ", ".join(tensor.name for tensor in inputs)
            raise SparkDLValueError(
                f"The graph {model} has {len(inputs)} inputs ({names}) but TFImageTransformer feeds one: use "
                "TFTransformer."
            )
        taken = chosen(self.getInputTensor(), inputs, "input", model) if self._names_input() else inputs[0]
        asked = self.getInputSize() if self.isSet(self.inputSize) else None
        about = f"The input {taken.name} of the graph {model} has the shape {taken.sides()}"
        if taken.dtype not in ("float32", "uint8") or len(taken.shape) != 3:
            raise SparkDLValueError(
                f"{about} and the type {taken.dtype}, but pictures need [height, width, channels] of float32 "
                "or uint8: use TFTransformer."
            )
        order, channels = self.getChannelOrder(), taken.shape[2]
        needed = 1 if order == "L" else 3
        if channels not in (None, needed):
            raise SparkDLValueError(f"{about}, but channelOrder {order} has {needed}: set channelOrder.")
        if asked and any(own not in (None, side) for own, side in zip(taken.shape[:2], asked, strict=True)):
            raise SparkDLValueError(
                f"{about}, but inputSize is {asked[0]} x {asked[1]}: leave inputSize unset."
            )
        if not asked and (taken.shape[0] is None) != (taken.shape[1] is None):
            raise SparkDLValueError(f"{about}, with one side open: set inputSize.")

    def _names_input(self) -> bool:
        return self.isSet(self.inputTensor)

    def _taken(self, known: list[Tensor], model: str) -> list[Tensor]:
        if self.isSet(self.outputMapping):
            names = {column: name for name, column in self.getOutputMapping().items()}
            return [chosen(names[column], known, "output", model) for column in self._outputs()]
        if self.isSet(self.outputTensor):
            return [chosen(self.getOutputTensor(), known, "output", model)]
        if len(known) != 1:
            raise SparkDLValueError(
                f"The graph {model} has {len(known)} outputs ({', '.join(tensor.name for tensor in known)}): "
                "set outputTensor or outputMapping."
            )
        return known

    def _resolve(self, spark: SparkSession) -> Path:
        graph = self.getGraph()
        if hasattr(graph, "as_graph_def"):
            graph = self._of_graph(graph)
        path = graph.path if isinstance(graph, TFInputGraph) else graph
        return _bundles.resolve_file(path, spark, asked=self._asked())

    def _of_graph(self, graph: Any) -> TFInputGraph:
        """What is read of a `tf.Graph`; again where it has grown since."""
        feed = self.getInputTensor() if self._names_input() else IMAGE_INPUT
        if self.isSet(self.outputMapping):
            fetches = list(self.getOutputMapping())
        elif self.isSet(self.outputTensor):
            fetches = [self.getOutputTensor()]
        else:
            raise SparkDLValueError("A tf.Graph needs outputTensor or outputMapping: what is asked of it.")
        key = graph.version, feed, tuple(fetches)
        if (known := _read.get(graph)) and known[0] == key and Path(known[1].path).exists():
            return known[1]
        found = TFInputGraph.fromGraph(graph, None, [feed], fetches, allowUnsafeOps=self.getAllowUnsafeOps())
        _read[graph] = key, found
        return found

    def _make(self, spark: SparkSession) -> None:
        self._resolve(spark)

    def _saves_bundle(self) -> bool:
        return self.isSet(self.graph)

    def _values_of(self, bundle: Path) -> dict[str, Any]:
        return {"graph": f"file:{bundle}"}

    def _is_live(self, value: Any) -> bool:
        return value is not None and not isinstance(value, str)


def _check_output(tensor: Tensor, mode: str, model: str) -> None:
    about = f"The output {tensor.name} of the graph {model} has the shape {tensor.sides()} and the type"
    is_picture = len(tensor.shape) == 3 and tensor.shape[2] in (None, 1, 3, 4)
    if mode == "image" and not (is_picture and tensor.dtype in ("float32", "uint8")):
        raise SparkDLValueError(
            f"{about} {tensor.dtype}, but outputMode image needs [height, width, 1, 3 or 4] of uint8 or "
            'float32: set outputMode to "vector" or "array".'
        )


TFImageTransformer.__module__ = "sparkdl"
