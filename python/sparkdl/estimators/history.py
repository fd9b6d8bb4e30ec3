"""What a training was: a table of epochs, and a plot of it."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

from sparkdl.exceptions import SparkDLError


class History(list[dict[str, Any]]):
    """A dict for each epoch (`epoch` from 1 on, `loss`, metrics, `seconds`), shown as a table."""

    def columns(self) -> list[str]:
        """The names of what epochs have, `epoch` first."""
        return list(dict.fromkeys(name for row in self for name in row))

    def __str__(self) -> str:
        names = self.columns()
        lines = [names, *([_text(row.get(name)) for name in names] for row in self)]
        widths = [max(len(line[n]) for line in lines) for n in range(len(names))]
        return "\n".join(
            "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines
        )

    def _repr_html_(self) -> str:
        names = self.columns()
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        rows = "".join(
            "<tr>" + "".join(f"<td>{_text(row.get(name))}</td>" for name in names) + "</tr>" for row in self
        )
        return f"<table><tr>{head}</tr>{rows}</table>"

    def plot(self, path: str | None = None) -> Any:
        """A matplotlib figure of loss and metrics by epoch, also written to `path` as PNG if given."""
        try:
            figure_class = import_module("matplotlib.figure").Figure
        except ImportError as error:
            raise SparkDLError(
                "plotHistory needs matplotlib in the Python of the driver: pip install matplotlib.",
                "InvalidArgument",
            ) from error
        names = [name for name in self.columns() if name not in ("epoch", "seconds")]
        own = [name for name in names if not name.startswith("val_")]
        figure = figure_class(figsize=(4.5 * max(1, len(own)), 3.2), layout="constrained")
        axes: Any = figure.subplots(1, max(1, len(own)), squeeze=False)[0]
        for axis, name in zip(axes, own, strict=False):
            for drawn, label in ((name, "training"), (f"val_{name}", "validation")):
                points = [(row["epoch"], row[drawn]) for row in self if drawn in row]
                if points:
                    axis.plot(*zip(*points, strict=True), marker="o", label=label)
            axis.set_title(name)
            axis.set_xlabel("epoch")
            axis.legend()
        if path is not None:
            figure.savefig(path, format="png")
        return figure


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
