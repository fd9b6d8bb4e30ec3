"""Rows of numbers through a Keras model."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.param.shared import HasInputCol, HasInputCols, HasOutputCol, HasOutputCols

from sparkdl import params
from sparkdl._tensor import Tensor
from sparkdl.exceptions import SparkDLValueError
from sparkdl.transformers.file_stage import FileStage
from sparkdl.transformers.tensor_stage import TensorStage


class KerasTransformer(
    FileStage,
    TensorStage,
    HasInputCol,
    HasInputCols,
    HasOutputCol,
    HasOutputCols,
    params.HasInputNames,
    params.HasOutputNames,
):
    """Runs rows of numbers through any Keras model, of one input and output or of several.

    A column feeds an input as plain numbers (for shapes `[]` and `[1]`), as arrays nested as deep as the
    input's shape, or flat, row by row: as an array or an MLlib vector. Whole numbers and booleans are
    converted to the input's type where they fit. A row with a null, or of another shape, is invalid.

    An output becomes arrays nested by its shape, of numbers of its type (uint8 as smallint), or a vector.
    """

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str | None = None,
        inputCols: list[str] | None = None,
        outputCol: str | None = None,
        outputCols: list[str] | None = None,
        modelFile: Any = None,
        inputNames: list[str] | None = None,
        outputNames: list[str] | None = None,
        outputMode: str = "array",
        batchSize: int = 256,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        expectedSha256: str | None = None,
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        inputCol: str | None = None,
        inputCols: list[str] | None = None,
        outputCol: str | None = None,
        outputCols: list[str] | None = None,
        modelFile: Any = None,
        inputNames: list[str] | None = None,
        outputNames: list[str] | None = None,
        outputMode: str = "array",
        batchSize: int = 256,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        expectedSha256: str | None = None,
    ) -> KerasTransformer:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def setInputCol(self, value: str) -> KerasTransformer:
        """Sets the column that feeds the model's only input."""
        return self._set(inputCol=value)

    def setInputCols(self, value: list[str]) -> KerasTransformer:
        """Sets the columns that feed the model's inputs, in the order of `inputNames` or of the model."""
        return self._set(inputCols=value)

    def setOutputCol(self, value: str) -> KerasTransformer:
        """Sets the column for the model's only output."""
        return self._set(outputCol=value)

    def setOutputCols(self, value: list[str]) -> KerasTransformer:
        """Sets the columns for the model's outputs, in the order of `outputNames` or of the model."""
        return self._set(outputCols=value)

    def _inputs(self) -> list[str]:
        if self.isSet(self.inputCol) == self.isSet(self.inputCols):
            if self.isSet(self.inputCol):
                raise SparkDLValueError(
                    "KerasTransformer takes either inputCol or inputCols, but both are set: clear one of "
                    "them."
                )
            raise SparkDLValueError(
                "KerasTransformer needs the param inputCol or inputCols: set one of them first."
            )
        return [self.getInputCol()] if self.isSet(self.inputCol) else list(self.getInputCols())

    def _outputs(self) -> list[str]:
        if self.isSet(self.outputCol) and self.isSet(self.outputCols):
            raise SparkDLValueError(
                "KerasTransformer takes either outputCol or outputCols, but both are set: clear one of them."
            )
        return list(self.getOutputCols()) if self.isSet(self.outputCols) else [self.getOutputCol()]

    def _fed(self, known: list[Tensor], model: str) -> list[Tensor]:
        inputs = known
        all_names = ", ".join(tensor.name for tensor in known)
        if self.isSet(self.inputNames):
            names = self.getInputNames()
            inputs = _chosen(names, known, "inputNames", f"The model {model} has no input")
            if len(inputs) != len(known):
                raise SparkDLValueError(
                    f"The model {model} has {len(known)} inputs ({all_names}) but inputNames has "
                    f"{len(inputs)}: name each of them once."
                )
        count = len(self._inputs())
        if count != len(inputs):
            raise SparkDLValueError(
                f"The model {model} has {len(known)} inputs ({all_names}) but inputCols has {count} columns: "
                "give one column per input."
            )
        return inputs

    def _taken(self, known: list[Tensor], model: str) -> list[Tensor]:
        outputs = known
        if self.isSet(self.outputNames):
            outputs = _chosen(self.getOutputNames(), known, "outputNames", f"The model {model} has no output")
        count = len(self._outputs())
        if count != len(outputs):
            raise SparkDLValueError(
                f"{len(outputs)} outputs ({', '.join(tensor.name for tensor in outputs)}) are asked of the "
                f"model {model} but outputCols has {count} columns: give one column per output, or choose by "
                "outputNames."
            )
        return outputs


def _chosen(names: list[str], known: list[Tensor], param: str, refusal: str) -> list[Tensor]:
    by_name = {tensor.name: tensor for tensor in known}
    for index, name in enumerate(names):
        if name not in by_name:
            raise SparkDLValueError(f"{refusal} {name} ({param}); it has {', '.join(by_name)}.")
        if name in names[:index]:
            raise SparkDLValueError(f"The param {param} names {name} twice.")
    return [by_name[name] for name in names]


KerasTransformer.__module__ = "sparkdl"
