"""Picture files through a Keras model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pyspark import keyword_only
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.sql.types import StringType, StructType

from sparkdl import _loading, params
from sparkdl._bundles import Asked
from sparkdl._files import Files
from sparkdl._tensor import Tensor
from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers import columns, picture_columns, tensor_columns
from sparkdl.transformers.file_stage import FileStage
from sparkdl.transformers.model_stage import Bundle, Plan
from sparkdl.transformers.picture_stage import picture_options


class KerasImageFileTransformer(
    FileStage,
    HasInputCol,
    HasOutputCol,
    params.HasInputSize,
    params.HasChannelOrder,
    params.HasPreprocessing,
    params.HasScaleHint,
    params.HasResizeMode,
    params.HasImageOutputMode,
    params.HasPictureOptions,
    params.HasImageLoader,
):
    """Reads picture files by their URIs and runs them through a Keras model.

    The model takes one picture `[height, width, 1 or 3]` of float32 and gives one output. Files are read by
    the workers, several at a time, ahead of the computation. A file that is missing, cannot be decoded, or
    has more than 256 MiB is an invalid row, with a reason that names its URI.

    `imageLoader`, a function of the caller's, may take the place of reading, decoding and preprocessing.
    """

    _of_the_model = (*FileStage._of_the_model, "inputSize")
    _python_alone = ("imageLoader",)

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        outputCol: str | None = None,
        modelFile: Any = None,
        imageLoader: Any = None,
        inputSize: list[int] | None = None,
        channelOrder: str = "RGB",
        preprocessing: str = "none",
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
        modelFile: Any = None,
        imageLoader: Any = None,
        inputSize: list[int] | None = None,
        channelOrder: str = "RGB",
        preprocessing: str = "none",
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
    ) -> KerasImageFileTransformer:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def setInputCol(self, value: str) -> KerasImageFileTransformer:
        """Sets the column of URIs of picture files (strings)."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> KerasImageFileTransformer:
        """Sets the column for the results."""
        return self._set(outputCol=value)

    def _needed(self) -> list[Any]:
        return [self.inputCol, self.modelFile]

    def _check_columns(self, schema: StructType) -> None:
        name = self.getInputCol()
        found = columns.found(schema, name)
        if not isinstance(found, StringType):
            raise SparkDLValueError(
                f"Column {name} must be of type string (the URI of a picture file) but was actually "
                f"{found.simpleString()}."
            )
        columns.check_new(schema, self._new_column_names([self.getOutputCol()]))

    def _check_model(self) -> None:
        super()._check_model()
        if self.isSet(self.imageLoader):
            for param in (self.channelOrder, self.preprocessing):
                if self.isSet(param):
                    raise SparkDLValueError(
                        f"The imageLoader gives pictures as the model takes them, so {param.name} does "
                        "nothing: clear one of the two."
                    )
            _loading.function_of(self.getImageLoader())

    def _asked(self, **choices: str) -> Asked:
        size = "x".join(str(side) for side in self.getInputSize()) if self.isSet(self.inputSize) else ""
        return super()._asked(input_size=size, **choices)

    def _plain_values(self) -> dict[str, Any]:
        values = super()._plain_values()
        if self.isSet(self.imageLoader):
            values["imageLoader"] = _loading.name_of(self.getImageLoader())
        return values

    def _plan(self, schema: StructType, bundle: Bundle) -> Plan:
        model = str(bundle.manifest["name"])
        taken, given = self._picture_model(bundle, model)
        height, width, channels = taken.shape
        column = schema.names.index(self.getInputCol())
        name, mode = self.getOutputCol(), self.getOutputMode()
        size = self._output_size(given, model)
        source: Any = Files(column)
        options = {
            "task": "pictures",
            "output": given.name,
            "outputMode": "image" if mode == "image" else "values",
            "channelOrder": self._order(channels or 3, model),
            "normalization": self.getPreprocessing(),
            "height": str(height),
            "width": str(width),
            **picture_options(self),
        }
        if self.isSet(self.imageLoader):
            source = _loading.Loaded(
                column, _loading.function_of(self.getImageLoader()), (height, width, channels)
            )
            options = {
                "task": "tensors",
                "allowUnsafeOps": "false",
                "inputs": json.dumps([taken.name]),
                "outputs": json.dumps([given.name]),
            }
        return Plan(
            source=source,
            options=options,
            fields=[picture_columns.output_field(name, mode, size)],
            kinds=[mode],
            numbers=max(1, size),
        )

    def _picture_model(self, bundle: Bundle, model: str) -> tuple[Tensor, Tensor]:
        """The model's input, with height and width filled in, and its output; refuses other models."""
        inputs, outputs = self._tensors(bundle)
        for what, found in (("inputs", inputs), ("outputs", outputs)):
            if len(found) != 1:
                names = ", ".join(tensor.name for tensor in found)
                raise SparkDLValueError(
                    f"The model {model} has {len(found)} {what} ({names}) but KerasImageFileTransformer "
                    "takes models of one: use KerasTransformer."
                )
        taken, given = inputs[0], outputs[0]
        if taken.dtype != "float32" or len(taken.shape) != 3 or taken.shape[2] not in (1, 3):
            raise SparkDLValueError(
                f"The input {taken.name} of the model {model} has the shape {taken.sides()} and the type "
                f"{taken.dtype}, but pictures need [height, width, 1 or 3] of float32: use KerasTransformer."
            )
        if given.dtype != "float32":
            raise SparkDLValueError(
                f"The output {given.name} of the model {model} is of type {given.dtype}, but "
                "KerasImageFileTransformer gives float32: use KerasTransformer."
            )
        return self._sized(taken, model), given

    def _sized(self, taken: Tensor, model: str) -> Tensor:
        height, width, channels = taken.shape
        if not self.isSet(self.inputSize):
            if (height is None or width is None) and not self.isSet(self.imageLoader):
                raise SparkDLValueError(f"The model {model} takes pictures of any size: set inputSize.")
            return taken
        asked = self.getInputSize()
        if any(own not in (None, side) for own, side in zip((height, width), asked, strict=True)):
            raise SparkDLValueError(
                f"The model {model} takes pictures of {height or 'any'} x {width or 'any'}, but inputSize is "
                f"{asked[0]} x {asked[1]}: leave inputSize unset."
            )
        return replace(taken, shape=(asked[0], asked[1], channels))

    def _order(self, channels: int, model: str) -> str:
        """The order of the channels: as set, else what the model and Keras' preprocessing need."""
        preprocessing, order = self.getPreprocessing(), self.getChannelOrder()
        if self.isSet(self.channelOrder) and (order == "L") != (channels == 1):
            raise SparkDLValueError(
                f"The model {model} takes {channels} channel{'s' if channels > 1 else ''}, but channelOrder "
                f"is {order}: leave channelOrder unset."
            )
        if channels == 1 and preprocessing in ("caffe", "torch"):
            raise SparkDLValueError(
                f"The model {model} takes 1 channel, but preprocessing {preprocessing} needs 3: set "
                'preprocessing to "none" or "tf".'
            )
        if self.isSet(self.channelOrder):
            return order
        return "L" if channels == 1 else "BGR" if preprocessing == "caffe" else "RGB"

    def _output_size(self, given: Tensor, model: str) -> int:
        shape = given.shape
        if self.getOutputMode() == "image" and not (len(shape) == 3 and shape[2] in (1, 3, 4)):
            raise SparkDLValueError(
                f"The output {given.name} of the model {model} has the shape {given.sides()}, but outputMode "
                'image needs [height, width, 1, 3 or 4]: set outputMode to "vector" or "array".'
            )
        size = tensor_columns.numbers(given)
        if size is None:
            raise SparkDLValueError(
                f"The output {given.name} of the model {model} has the shape {given.sides()}, whose size is "
                "not known: set inputSize, or use KerasTransformer."
            )
        return size


KerasImageFileTransformer.__module__ = "sparkdl"
