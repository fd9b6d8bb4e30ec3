"""Inputs and outputs of models, as their bundles have them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from sparkdl.exceptions import SparkDLValueError


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model."""

    name: str
    """What the model calls it: the key of a signature, an input of Keras, or the tensor's own name."""
    tensor: str
    """Its name in the graph: `node:0`."""
    dtype: str
    """As TensorFlow spells it: `float32`."""
    shape: tuple[int | None, ...]
    """Without the batch; None is any size."""
    rows: bool = True
    """Whether there is a batch: an open first dimension. Else `shape` is the whole."""

    def whole(self) -> Tensor:
        """All of it as what each row holds."""
        return replace(self, shape=(None, *self.shape)) if self.rows else replace(self, rows=True)

    def any_rows(self, model: str) -> Tensor:
        """Each of its rows, of which there may be any number, or always the same."""
        whole = self.whole().shape
        if not whole:
            raise SparkDLValueError(
                f"The output {self.name} of the graph {model} is a single value and has no rows: ask for it "
                "through reduceBlocks."
            )
        return replace(self, shape=whole[1:], rows=True)

    def check_rows(self, model: str) -> None:
        """Refuses a tensor whose first dimension is not the rows."""
        if not self.rows:
            raise SparkDLValueError(
                f"The tensor {self.tensor} of {model} has the shape {self.sides()}, but the first dimension "
                "must be open, for the rows. A graph of one row runs through mapRows."
            )

    def sides(self) -> str:
        """The shape for people: `[224, any, 3]`."""
        return f"[{', '.join('any' if side is None else str(side) for side in self.shape)}]"

    def plain_name(self) -> str:
        """What a column of it is called."""
        return self.name.removesuffix(":0")

    def is_called(self, name: str) -> bool:
        """Whether a user may mean it: `:0` may be left out."""
        return name in (self.name, self.tensor, self.tensor.removesuffix(":0"))


def check_safe(manifest: dict[str, Any], allowed: bool) -> None:
    """Refuses a graph that reaches beyond itself, unless that is allowed."""
    if manifest.get("unsafeOps") and not allowed:
        raise SparkDLValueError(
            f"The graph {manifest['name']} runs operations that reach beyond it (files, processes, Python, "
            "network or queues): set allowUnsafeOps where you trust it.",
            "InvalidModel",
        )


def tensors(manifest: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a bundle on tensors."""
    inputs, outputs = ([_tensor(one) for one in manifest[key]] for key in ("inputs", "outputs"))
    return inputs, outputs


def _tensor(given: dict[str, Any]) -> Tensor:
    shape, rows = tuple(given["shape"]), given.get("rows", True)
    return Tensor(given["name"], given["tensor"], given["dtype"], shape, rows)


def nearest(name: str, known: list[str]) -> str:
    """The names nearest to one that is not there, for a message; all of them where none is near."""
    return ", ".join(get_close_matches(name, known, n=3, cutoff=0.5) or known)
