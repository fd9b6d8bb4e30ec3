"""Columns through a TensorFlow graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pyspark import keyword_only
from pyspark.ml.param import Param
from pyspark.sql import SparkSession
from pyspark.sql.types import DataType

from sparkdl import _bundles, params
from sparkdl._tensor import Tensor, tensors
from sparkdl.exceptions import SparkDLValueError
from sparkdl.graph.input import TFInputGraph, chosen
from sparkdl.transformers import tensor_columns
from sparkdl.transformers.model_stage import Bundle
from sparkdl.transformers.tensor_stage import TensorStage


class TFTransformer(
    TensorStage,
    params.HasTFInputGraph,
    params.HasAllowUnsafeOps,
    params.HasInputMapping,
    params.HasOutputMapping,
    params.HasCastInputs,
):
    """Runs columns through a TensorFlow graph with any number of inputs and outputs.

    A column feeds an input as plain values (for rows of shapes `[]` and `[1]`), as arrays nested as deep as
    the shape of a row, or flat, row by row: as an array or an MLlib vector. Its type must be the tensor's,
    unless `castInputs` is set: float for float32 and float16, double for float64, tinyint for int8, smallint
    for int16, int for int32, bigint for int64, boolean for bool, string or binary for string, and for uint8
    smallint, or binary as a flat row of bytes; MLlib vectors go to any float type.
    A row with a null, or of another shape, is invalid.

    An output becomes arrays nested by the shape of a row, of values of its type (uint8 as smallint, float16
    as float), or a vector, unless it is of type string. A string that is not UTF-8 makes its row invalid.
    """

    _of_the_model: ClassVar[tuple[str, ...]] = ("tfInputGraph", "expectedSha256")
    _live = "tfInputGraph"

    @keyword_only
    def __init__(
        self,
        *,
        tfInputGraph: TFInputGraph | str | None = None,
        inputMapping: dict[str, str] | None = None,
        outputMapping: dict[str, str] | None = None,
        castInputs: bool = False,
        outputMode: str = "array",
        batchSize: int = 256,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        expectedSha256: str | None = None,
        allowUnsafeOps: bool = False,
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        tfInputGraph: TFInputGraph | str | None = None,
        inputMapping: dict[str, str] | None = None,
        outputMapping: dict[str, str] | None = None,
        castInputs: bool = False,
        outputMode: str = "array",
        batchSize: int = 256,
        handleInvalid: str = "keep",
        errorCol: str | None = None,
        expectedSha256: str | None = None,
        allowUnsafeOps: bool = False,
    ) -> TFTransformer:
        """Sets the params that are given, and no others."""
        return self._set(**self._input_kwargs)

    def _needed(self) -> list[Param[Any]]:
        return [self.tfInputGraph, self.inputMapping, self.outputMapping]

    def _inputs(self) -> list[str]:
        return sorted(self.getInputMapping())

    def _outputs(self) -> list[str]:
        return sorted(self.getOutputMapping().values())

    def _check_model(self) -> None:
        graph = self.getTfInputGraph()
        if self._pinned() is None and isinstance(graph, str) and not graph.endswith(".sparkdl"):
            raise SparkDLValueError(
                f"tfInputGraph must be a TFInputGraph or the path of its bundle (*.sparkdl) but was {graph}: "
                "read the graph with TFInputGraph.fromSavedModelWithSignature or another of its methods."
            )

    def _tensors(self, bundle: Bundle) -> tuple[list[Tensor], list[Tensor]]:
        if bundle.is_for_pictures():
            raise SparkDLValueError(
                f"TFTransformer takes graphs on tensors, but {self.getTfInputGraph()} is a bundle for "
                "pictures: use it as modelName of DeepImageFeaturizer or DeepImagePredictor."
            )
        return tensors(bundle.manifest)

    def _fed(self, known: list[Tensor], model: str) -> list[Tensor]:
        mapping = self.getInputMapping()
        fed = {column: chosen(mapping[column], known, "input", model) for column in self._inputs()}
        by_tensor: dict[Tensor, str] = {}
        for column, tensor in fed.items():
            if tensor in by_tensor:
                raise SparkDLValueError(
                    f"The columns {by_tensor[tensor]} and {column} both feed the input {tensor.name} of the "
                    f"graph {model}: leave one of them out of inputMapping."
                )
            by_tensor[tensor] = column
        if missing := [tensor.name for tensor in known if tensor not in by_tensor]:
            raise SparkDLValueError(
                f"The input {missing[0]} of the graph {model} has no column: add it to inputMapping."
            )
        return list(fed.values())

    def _taken(self, known: list[Tensor], model: str) -> list[Tensor]:
        columns = {column: name for name, column in self.getOutputMapping().items()}
        return [chosen(columns[column], known, "output", model) for column in self._outputs()]

    def _task(self) -> dict[str, str]:
        return super()._task() | {"allowUnsafeOps": str(self.getAllowUnsafeOps()).lower()}

    def _check_fits(self, column: str, kind: DataType, tensor: Tensor, model: str) -> None:
        if not self.getCastInputs():
            tensor_columns.check_same(column, kind, tensor, model)
        super()._check_fits(column, kind, tensor, model)

    def _resolve(self, spark: SparkSession) -> Path:
        graph = self.getTfInputGraph()
        path = graph.path if isinstance(graph, TFInputGraph) else graph
        return _bundles.resolve_file(path, spark, asked=self._asked())

    def _make(self, spark: SparkSession) -> None:
        """The bundle is there already."""

    def _saves_bundle(self) -> bool:
        return self.isSet(self.tfInputGraph)

    def _values_of(self, bundle: Path) -> dict[str, Any]:
        return {"tfInputGraph": f"file:{bundle}"}

    def _is_live(self, value: Any) -> bool:
        return isinstance(value, TFInputGraph)


TFTransformer.__module__ = "sparkdl"
