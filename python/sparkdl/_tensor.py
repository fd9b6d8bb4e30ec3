"""Inputs and outputs of models, as their bundles have them."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


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

    def sides(self) -> str:
        """The shape for people: `[224, any, 3]`."""
        return f"[{', '.join('any' if side is None else str(side) for side in self.shape)}]"

    def is_called(self, name: str) -> bool:
        """Whether a user may mean it: `:0` may be left out."""
        return name in (self.name, self.tensor, self.tensor.removesuffix(":0"))


def tensors(manifest: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a bundle on tensors."""
    inputs, outputs = (
        [Tensor(one["name"], one["tensor"], one["dtype"], tuple(one["shape"])) for one in manifest[key]]
        for key in ("inputs", "outputs")
    )
    return inputs, outputs


def nearest(name: str, known: list[str]) -> str:
    """The names nearest to one that is not there, for a message; all of them where none is near."""
    return ", ".join(get_close_matches(name, known, n=3, cutoff=0.5) or known)
