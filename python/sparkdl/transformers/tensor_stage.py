"""What the stages for models on tensors share: columns that feed inputs, and columns that outputs become."""

from __future__ import annotations

import json
from abc import abstractmethod

from pyspark.sql.types import DataType, StructType

from sparkdl import _batches, params
from sparkdl._tensor import Tensor, check_safe
from sparkdl.transformers import columns, tensor_columns
from sparkdl.transformers.model_stage import Bundle, ModelStage, Plan


class TensorStage(ModelStage, params.HasTensorOutputMode, params.HasHandleInvalidRow):
    """A stage that runs columns of numbers through a model on tensors."""

    _what = "row"

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(batchSize=256)

    @abstractmethod
    def _inputs(self) -> list[str]:
        """The columns that feed inputs."""

    @abstractmethod
    def _outputs(self) -> list[str]:
        """The columns that outputs become."""

    @abstractmethod
    def _tensors(self, bundle: Bundle) -> tuple[list[Tensor], list[Tensor]]:
        """The model's inputs and outputs."""

    @abstractmethod
    def _fed(self, known: list[Tensor], model: str) -> list[Tensor]:
        """The model's inputs in the order of the columns."""

    @abstractmethod
    def _taken(self, known: list[Tensor], model: str) -> list[Tensor]:
        """The model's outputs in the order of the columns."""

    def _task(self) -> dict[str, str]:
        """What the native model computes, without the names of its inputs and outputs."""
        return {"task": "tensors", "allowUnsafeOps": "false"}

    def _check_fits(self, column: str, kind: DataType, tensor: Tensor, model: str) -> None:
        """Refuses a column whose type cannot feed this input."""
        tensor_columns.check_fits(column, kind, tensor, model)

    def _check_columns(self, schema: StructType) -> None:
        inputs, outputs = self._inputs(), self._outputs()
        for name in inputs:
            columns.found(schema, name)
        columns.check_new(schema, self._new_column_names(outputs))

    def _plan(self, schema: StructType, bundle: Bundle) -> Plan:
        model = str(bundle.manifest["name"])
        task = self._task()
        check_safe(bundle.manifest, task["allowUnsafeOps"] == "true")
        known, given = self._tensors(bundle)
        for tensor in known:
            tensor.check_rows(f"the model {model}")
        inputs = self._fed(known, model)
        for name, tensor in zip(self._inputs(), inputs, strict=True):
            self._check_fits(name, columns.found(schema, name), tensor, model)
        outputs = self._taken(given, model)
        for tensor in outputs:
            tensor.check_rows(f"the model {model}")
        mode = self.getOutputMode()
        tensor_columns.check_mode(outputs, mode, model)
        names = zip(self._outputs(), outputs, strict=True)
        options = {
            **task,
            "inputs": json.dumps([tensor.name for tensor in inputs]),
            "outputs": json.dumps([tensor.name for tensor in outputs]),
        }
        return Plan(
            source=_batches.Columns(tuple(schema.names.index(name) for name in self._inputs())),
            options=options,
            fields=[tensor_columns.output_field(name, mode, tensor) for name, tensor in names],
            kinds=["vector" if mode == "vector" else "same"] * len(outputs),
            numbers=max(tensor_columns.numbers(tensor) or 1 for tensor in outputs),
        )
