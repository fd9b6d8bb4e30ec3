"""Compares every network of the table with Keras, in each form of file that it can come in: `make zoo`.

Weights are seeded (see `seeded`). Prints a line for each network and writes all as a table to dist/zoo.md.
Ends with 1 where a difference is above the tolerance or a file was refused. Each network has its own process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))

import comparison  # noqa: E402
import seeded  # noqa: E402
from sparkdl import _engine  # noqa: E402
from sparkdl.models import NamedModel, named_model, named_models  # noqa: E402

PICTURES = 3
HEAD = "| network | parameters | file | features | scores | seconds to convert |\n|---|---|---|---|---|---|\n"


def measured(row: NamedModel, folder: Path) -> list[dict[str, Any]]:
    """For each file: how far features and scores are from those of Keras, and how long converting took."""
    files, pixels = comparison.pictures(row, PICTURES)
    reference = comparison.apart(seeded.written, row, pixels, folder)
    comparison.assert_tells_pictures_apart(reference)
    scores = reference | {"predictions": comparison.softmax(reference["predictions"])}
    forms = [(file, reference) for file in comparison.WHOLE_MODELS]
    # The network of the table ends with the classifier's softmax, the seeded one before it.
    forms += [(file, scores) for file in comparison.WEIGHTS_ALONE + comparison.WITHOUT_TOP]
    by_graph: dict[str, dict[str, float]] = {}
    return [entry(row, folder / file, expected, files, by_graph) for file, expected in forms]


def entry(
    row: NamedModel,
    file: Path,
    reference: seeded.Outputs,
    files: list[bytes],
    by_graph: dict[str, dict[str, float]],
) -> dict[str, Any]:
    bundle = file.with_suffix(".sparkdl")
    start = time.perf_counter()
    _engine.convert_keras(file, bundle, row.name)
    seconds = time.perf_counter() - start
    graph = comparison.manifest(bundle)["graph"]["sha256"]
    if graph not in by_graph:  # The same graph gives the same numbers.
        ours = comparison.core_outputs(bundle, files, ("none", "predictions"))
        by_graph[graph] = comparison.differences(ours, reference)
    found = by_graph[graph]
    bundle.unlink()
    file.unlink()
    features, scores = found["none"], found.get("predictions")
    return {"file": file.name, "features": features, "scores": scores, "seconds": seconds}


def one(name: str) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("SPARKDL_ZOO_DIR")) as folder:
        entries = measured(named_model(name), Path(folder))
    whole = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"entries": entries, "peak": whole * 1024}))


def lines(row: NamedModel, entries: list[dict[str, Any]]) -> str:
    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.1e}"

    return "".join(
        f"| {row.name} | {row.parameters:,} | {e['file']} | {shown(e['features'])} | {shown(e['scores'])} "
        f"| {e['seconds']:.1f} |\n"
        for e in entries
    )


def all_of(rows: list[NamedModel], target: Path) -> int:
    failed = []
    target.parent.mkdir(exist_ok=True)
    target.write_text(HEAD)
    for row in rows:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--one", row.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failed.append(row.name)
            print(f"{row.name}: FAILED with exit code {done.returncode}", flush=True)
            continue
        said = json.loads(done.stdout.splitlines()[-1])
        entries = said["entries"]
        worst = max(value for e in entries for value in (e["features"], e["scores"] or 0.0))
        if worst > comparison.TOLERANCE:
            failed.append(row.name)
        with target.open("a") as table:
            table.write(lines(row, entries))
        print(
            f"{row.name}: {worst:.1e} over {len(entries)} files{' TOO FAR' if row.name in failed else ''}, "
            f"{time.perf_counter() - start:.0f} s, at most {said['peak'] / 2**30:.1f} GiB",
            flush=True,
        )
    print(f"{len(rows) - len(failed)} of {len(rows)} networks give what Keras gives; the table is {target}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="networks; without a name all of the table")
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if given.one:
        one(given.one)
        return 0
    rows = [row for row in named_models() if not given.names or row.name in given.names]
    return all_of(sorted(rows, key=lambda row: row.parameters), ROOT / "dist/zoo.md")


if __name__ == "__main__":
    sys.exit(main())
