"""Which TensorFlow graph, and which columns are its tensors."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.exceptions import SparkDLValueError
from sparkdl.graph.input import TFInputGraph
from sparkdl.graph.utils import tensor_name
from sparkdl.params.checks import not_empty

P = TypeVar("P", bound=Params)


def _graph(value: Any) -> Any:
    return value if isinstance(value, TFInputGraph) else not_empty("tfInputGraph")(value)


def _picture_graph(value: Any) -> Any:
    is_graph = isinstance(value, TFInputGraph) or hasattr(value, "as_graph_def")
    return value if is_graph else not_empty("graph")(value)


def _tensor(value: Any) -> str:
    """A tensor by its name, or itself."""
    return str(value) if isinstance(value, str) else tensor_name(value)


def _names(param: str, shape: str) -> Callable[[Any], dict[str, str]]:
    def convert(value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or not value:
            raise SparkDLValueError(f"{param} must be a dict of {shape}, and not empty, but was {value!r}.")
        for pair in value.items():
            if not all(isinstance(name, str) and name for name in pair):
                raise SparkDLValueError(f"{param} must be a dict of {shape}, but has {pair!r}.")
        return dict(sorted(value.items()))

    return convert


def _new_columns(value: Any) -> dict[str, str]:
    names = _names("outputMapping", "tensor to column")(value)
    columns = sorted(names.values())
    for column, following in pairwise(columns):
        if column == following:
            raise SparkDLValueError(f"outputMapping has the column {column} twice: give each tensor its own.")
    return names


class HasTFInputGraph(Params):
    """The TensorFlow graph."""

    tfInputGraph: Param[Any] = Param(
        Params._dummy(),
        "tfInputGraph",
        "TensorFlow graph that was read (TFInputGraph), or path or URI of its bundle (*.sparkdl)",
        _graph,
    )

    def getTfInputGraph(self) -> Any:
        """The `TFInputGraph` that was set, or the path or URI of a bundle."""
        return self.getOrDefault(self.tfInputGraph)

    def setTfInputGraph(self: P, value: Any) -> P:
        """Sets the graph: a `TFInputGraph`, or the path or URI of a bundle (`*.sparkdl`)."""
        return self._set(tfInputGraph=value)


class HasInputMapping(Params):
    """Which column feeds which tensor."""

    inputMapping: Param[dict[str, str]] = Param(
        Params._dummy(),
        "inputMapping",
        "column to the tensor it feeds, by its name (x:0, or x) or by its key in the signature",
        _names("inputMapping", "column to tensor"),
    )

    def getInputMapping(self) -> dict[str, str]:
        """Column to tensor."""
        return self.getOrDefault(self.inputMapping)

    def setInputMapping(self: P, value: dict[str, str]) -> P:
        """Sets which column feeds which tensor, by the tensor's name or its key in the signature.

        Every input of the graph needs a column.
        """
        return self._set(inputMapping=value)


class HasOutputMapping(Params):
    """Which tensor becomes which column."""

    outputMapping: Param[dict[str, str]] = Param(
        Params._dummy(),
        "outputMapping",
        "tensor, by its name (y:0, or y) or by its key in the signature, to the new column for it",
        _new_columns,
    )

    def getOutputMapping(self) -> dict[str, str]:
        """Tensor to column."""
        return self.getOrDefault(self.outputMapping)

    def setOutputMapping(self: P, value: dict[str, str]) -> P:
        """Sets which tensor becomes which new column; the new columns come in the order of their names."""
        return self._set(outputMapping=value)


class HasCastInputs(Params):
    """Whether columns of other types are converted."""

    castInputs: Param[bool] = Param(
        Params._dummy(),
        "castInputs",
        "whether columns whose type is not the tensor's are converted; a value that the tensor's type does "
        "not hold makes its row invalid",
        TypeConverters.toBoolean,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(castInputs=False)

    def getCastInputs(self) -> bool:
        """Whether columns of other types are converted."""
        return self.getOrDefault(self.castInputs)

    def setCastInputs(self: P, value: bool) -> P:
        """Sets whether columns of other types are converted; without it their types must be the tensors'."""
        return self._set(castInputs=value)


class HasAllowUnsafeOps(Params):
    """Whether the graph may reach beyond itself."""

    allowUnsafeOps: Param[bool] = Param(
        Params._dummy(),
        "allowUnsafeOps",
        "whether the graph may run operations that reach beyond it: files, processes, Python, network, "
        "queues",
        TypeConverters.toBoolean,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(allowUnsafeOps=False)

    def getAllowUnsafeOps(self) -> bool:
        """Whether the graph may run operations that reach beyond it."""
        return self.getOrDefault(self.allowUnsafeOps)

    def setAllowUnsafeOps(self: P, value: bool) -> P:
        """Sets whether operations that reach beyond the graph may run: only where you trust it as a program.

        The graph must have been read with `allowUnsafeOps` too.
        """
        return self._set(allowUnsafeOps=value)


IMAGE_INPUT = "sparkdl_image_input:0"
"""What `imageInputPlaceholder` makes."""


class HasGraph(Params):
    """The TensorFlow graph for pictures."""

    graph: Param[Any] = Param(
        Params._dummy(),
        "graph",
        "TensorFlow graph that takes pictures: TFInputGraph, or path or URI of its bundle (*.sparkdl)",
        _picture_graph,
    )

    def getGraph(self) -> Any:
        """The `TFInputGraph` or `tf.Graph` that was set, or the path or URI of a bundle."""
        return self.getOrDefault(self.graph)

    def setGraph(self: P, value: Any) -> P:
        """Sets the graph: a `TFInputGraph`, a `tf.Graph` without variables, or the path of a bundle."""
        return self._set(graph=value)


class HasTensors(Params):
    """The tensors of a graph for pictures."""

    inputTensor: Param[str] = Param(
        Params._dummy(),
        "inputTensor",
        "tensor that pictures feed, by its name or its key in the signature; the only input when unset",
        _tensor,
    )
    outputTensor: Param[str] = Param(
        Params._dummy(),
        "outputTensor",
        "tensor that outputCol is, by its name or its key in the signature; the only output when unset",
        _tensor,
    )

    def getInputTensor(self) -> str:
        """The tensor that pictures feed."""
        return self.getOrDefault(self.inputTensor)

    def setInputTensor(self: P, value: Any) -> P:
        """Sets the tensor that pictures feed: `[rows, height, width, channels]`, samples from 0 to 255."""
        return self._set(inputTensor=value)

    def getOutputTensor(self) -> str:
        """The tensor that outputCol is."""
        return self.getOrDefault(self.outputTensor)

    def setOutputTensor(self: P, value: Any) -> P:
        """Sets the tensor that outputCol is; for several there is outputMapping."""
        return self._set(outputTensor=value)
