"""Writes the table of `spark-package/docs/models.md`: the built-in models, and how far they are from Keras.

Run with the project's Python after a change of the table or a run of `make zoo`. A network that dist/zoo.md
does not have keeps what the page says of it.
"""

from __future__ import annotations

from pathlib import Path

from sparkdl.models import NamedModel, named_models

ROOT = Path(__file__).resolve().parents[2]
PAGE, MEASURED = ROOT / "spark-package/docs/models.md", ROOT / "dist/zoo.md"
COLUMNS = ("name", "input", "features", "parameters", "normalization", "licence", "hash")
MEASURES = ("features differ", "scores differ")
HEAD = f"| {' | '.join(COLUMNS + MEASURES)} |\n{'|---' * len(COLUMNS + MEASURES)}|\n"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def known(page: str) -> dict[str, list[str]]:
    """The last two cells of each network, as the page has them."""
    rows = (cells(line) for line in page.splitlines() if line.startswith("| `"))
    return {row[0].strip("`"): row[len(COLUMNS) :] for row in rows if len(row) > len(COLUMNS)}


def measured(table: str) -> dict[str, list[str]]:
    """The largest differences of each network over all of its files."""
    found: dict[str, list[list[float]]] = {}
    for name, _, _, *numbers in map(cells, table.splitlines()[2:]):
        features, scores = (float(number or 0) for number in numbers[:2])
        found.setdefault(name, []).append([features, scores])
    return {
        name: [f"{max(values):.1e}" for values in zip(*rows, strict=True)] for name, rows in found.items()
    }


def line(row: NamedModel, differences: list[str]) -> str:
    times = " \N{MULTIPLICATION SIGN} "
    about = [
        f"`{row.name}`",
        times.join(map(str, (row.height, row.width))),
        times.join(map(str, row.features)),
        f"{row.parameters / 1e6:.1f} M",
        f"{row.normalization}, {row.channel_order}",
        row.license,
        row.top.hash_algorithm or "none",
    ]
    return f"| {' | '.join(about + differences)} |\n"


def main() -> None:
    page = PAGE.read_text()
    found = known(page) | (measured(MEASURED.read_text()) if MEASURED.exists() else {})
    text = page[: page.index("| name |")]
    lines = (line(row, found.get(row.name, ["", ""])) for row in named_models())
    PAGE.write_text(text + HEAD + "".join(lines))


if __name__ == "__main__":
    main()
