"""How rows go in, and what comes out for each."""

from __future__ import annotations

from typing import TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.params.checks import at_least, choice, not_empty

P = TypeVar("P", bound=Params)


class HasOutputMode(Params):
    """The type of the numbers that come out."""

    outputMode: Param[str] = Param(
        Params._dummy(),
        "outputMode",
        "type of the output column: \"vector\" (MLlib's, with its size in the column's metadata) "
        'or "array" (of floats)',
        choice("outputMode", ("vector", "array")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(outputMode="vector")

    def getOutputMode(self) -> str:
        """`"vector"`, `"array"` or `"image"`, as far as the stage has them."""
        return self.getOrDefault(self.outputMode)

    def setOutputMode(self: P, value: str) -> P:
        """Sets `"vector"` (MLlib's, of doubles, its size in its metadata), `"array"`, or `"image"` (Spark's
        image struct of float32), as far as the stage has them.
        """
        return self._set(outputMode=value)


class HasTensorOutputMode(HasOutputMode):
    """The type of the columns that come out of a model on tensors."""

    outputMode: Param[str] = Param(
        Params._dummy(),
        "outputMode",
        'type of the output columns: "array" (nested by the output\'s shape, of numbers of the '
        "output's type) or \"vector\" (MLlib's, flattened, with its size in the column's metadata)",
        choice("outputMode", ("array", "vector")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(outputMode="array")


class HasImageOutputMode(HasOutputMode):
    """The type of the column that comes out of a model on pictures."""

    outputMode: Param[str] = Param(
        Params._dummy(),
        "outputMode",
        "type of the output column: \"vector\" (MLlib's, flattened, with its size in the column's metadata), "
        '"array" (of floats, flattened), or "image" (Spark\'s image struct of float32, BGR)',
        choice("outputMode", ("vector", "array", "image")),
    )


class HasGraphOutputMode(HasOutputMode):
    """The type of the columns that come out of a TensorFlow graph on pictures."""

    outputMode: Param[str] = Param(
        Params._dummy(),
        "outputMode",
        'type of the output columns: "vector" (MLlib\'s, flattened), "array" (nested by the tensor\'s shape, '
        'of numbers of its type), or "image" (Spark\'s image struct, of uint8 or float32, BGR)',
        choice("outputMode", ("vector", "array", "image")),
    )


class HasBatchSize(Params):
    """The rows of one native call."""

    batchSize: Param[int] = Param(
        Params._dummy(),
        "batchSize",
        "rows handed to the native code at a time (at least 1)",
        at_least("batchSize", 1),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(batchSize=32)

    def getBatchSize(self) -> int:
        """Rows handed to the native code at a time."""
        return self.getOrDefault(self.batchSize)

    def setBatchSize(self: P, value: int) -> P:
        """Sets the rows handed to the native code at a time, from 1 on."""
        return self._set(batchSize=value)


class HasHandleInvalid(Params):
    """What becomes of a row without a usable picture."""

    handleInvalid: Param[str] = Param(
        Params._dummy(),
        "handleInvalid",
        'what becomes of a row without a usable picture: "keep" (null output, the reason in errorCol), '
        '"skip" (the row is dropped), or "error" (the job stops, naming the file)',
        choice("handleInvalid", ("keep", "skip", "error")),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(handleInvalid="keep")

    def getHandleInvalid(self) -> str:
        """`"keep"`, `"skip"` or `"error"`."""
        return self.getOrDefault(self.handleInvalid)

    def setHandleInvalid(self: P, value: str) -> P:
        """Sets what becomes of a row without a usable picture or value (null, undecodable, of a wrong size).

        `"keep"`: null output, the reason in errorCol; `"skip"`: the row is dropped; `"error"`: the job stops,
        naming the file.
        """
        return self._set(handleInvalid=value)


class HasHandleInvalidRow(HasHandleInvalid):
    """What becomes of a row that the model cannot take."""

    handleInvalid: Param[str] = Param(
        Params._dummy(),
        "handleInvalid",
        'what becomes of a row that the model cannot take: "keep" (null outputs, the reason in errorCol), '
        '"skip" (the row is dropped), or "error" (the job stops, naming the row)',
        choice("handleInvalid", ("keep", "skip", "error")),
    )


class HasErrorCol(Params):
    """The column of reasons."""

    errorCol: Param[str] = Param(
        Params._dummy(),
        "errorCol",
        "column for the reason why a row has no output (null where it has one); none when unset",
        not_empty("errorCol"),
    )

    def getErrorCol(self) -> str:
        """The column for the reason why a row has no output."""
        return self.getOrDefault(self.errorCol)

    def setErrorCol(self: P, value: str) -> P:
        """Sets the column for the reason why a row has no output: a string, null where the row is fine."""
        return self._set(errorCol=value)


class HasDecodePredictions(Params):
    """How scores become classes."""

    decodePredictions: Param[bool] = Param(
        Params._dummy(),
        "decodePredictions",
        "whether the output is the topK best classes with their names, rather than the scores of all classes",
        TypeConverters.toBoolean,
    )
    topK: Param[int] = Param(
        Params._dummy(),
        "topK",
        "how many classes are named, best first (at least 1); read when decodePredictions is true",
        at_least("topK", 1),
    )
    labels: Param[list[str]] = Param(
        Params._dummy(),
        "labels",
        "names of the classes, one per score of the model; empty: the model's own",
        TypeConverters.toListString,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(decodePredictions=False, topK=5, labels=[])

    def getDecodePredictions(self) -> bool:
        """Whether the output is the best classes by name."""
        return self.getOrDefault(self.decodePredictions)

    def setDecodePredictions(self: P, value: bool) -> P:
        """Sets whether the output is the best classes by name, rather than the scores of all classes."""
        return self._set(decodePredictions=value)

    def getTopK(self) -> int:
        """How many classes are named, best first."""
        return self.getOrDefault(self.topK)

    def setTopK(self: P, value: int) -> P:
        """Sets how many classes are named, best first. Read when decodePredictions is true."""
        return self._set(topK=value)

    def getLabels(self) -> list[str]:
        """Names of the classes; empty: the model's own."""
        return self.getOrDefault(self.labels)

    def setLabels(self: P, value: list[str]) -> P:
        """Sets the names of the classes, one per score. Empty: the model's own."""
        return self._set(labels=value)
