"""The errors of sparkdl: a kind for programs, a message for people. Same kinds and words as in Scala."""

from __future__ import annotations


class SparkDLError(Exception):
    """What goes wrong in sparkdl. `kind` names the class of failure, as `TensorFlowUnavailable`."""

    kind: str

    def __init__(self, message: str, kind: str = "Internal") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[SparkDLError], tuple[str, str]]:
        return type(self), (str(self), self.kind)

    def getCondition(self) -> str:
        """Spark's error condition, as `SPARKDL_TENSORFLOW_UNAVAILABLE`."""
        return self._spark_names()[0]

    def getSqlState(self) -> str:
        """The SQLSTATE of the condition."""
        return self._spark_names()[1]

    def _spark_names(self) -> tuple[str, str]:
        from sparkdl import _engine

        return _engine.error_kinds()[self.kind]


class SparkDLValueError(SparkDLError, ValueError):
    """What the caller must change: kinds InvalidArgument, InvalidModel and InvalidBatch."""

    def __init__(self, message: str, kind: str = "InvalidArgument") -> None:
        super().__init__(message, kind)


for _public in (SparkDLError, SparkDLValueError):
    _public.__module__ = "sparkdl"
