"""`make bench`: pictures per second and memory from encoded bytes to scores, MobileNetV2, `local[2]`.

Each way, ours and the rivals', runs in its own process, in turn, round after round, so that the machine's
drift meets all alike; the figure of a way is the median of its rounds' second pass. Rivals first try their
threads and batches and go on with the best.
"""

import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import photos
import process_tree

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROUNDS = int(os.environ.get("SPARKDL_BENCH_ROUNDS", "3"))
PICTURES = int(os.environ.get("SPARKDL_BENCH_PICTURES", "1000"))
FOLDER = ROOT / f"target/bench/{PICTURES}"
NAMES = {
    "jvm": "ours, JVM path",
    "sql": "ours, SQL function",
    "python": "ours, Python path",
    "core": "ours, core without Spark",
    "keras": "pandas_udf + Pillow + keras.predict",
    "onnx": "mapInArrow + OpenCV + ONNX Runtime",
}
MODELS = {
    "jvm": "sparkdl",
    "sql": "sparkdl",
    "python": "sparkdl",
    "core": "sparkdl",
    "keras": "keras",
    "onnx": "onnx",
}
TRIED = {"keras": itertools.product((0, 1, 2), (32, 64)), "onnx": itertools.product((1, 2), (1, 8, 32))}
BARS = [
    ("jvm", "keras", 2.5),
    ("python", "keras", 2.0),
    ("jvm", "onnx", 1.0),
    ("jvm", "core", 0.95),
    ("sql", "jvm", 0.95),
]

Way = dict[str, Any]


def prepare() -> dict[str, float]:
    """The pictures and the network, made once for a number of pictures."""
    made = FOLDER / "made.json"
    if not made.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        medians = photos.write(FOLDER, PICTURES)
        site = os.pathsep.join([os.environ["SPARKDL_TEST_SITE"], os.environ["SPARKDL_BENCH_ONNX"]])
        subprocess.run(
            [sys.executable, HERE / "network.py", FOLDER], check=True, env=os.environ | {"PYTHONPATH": site}
        )
        made.write_text(json.dumps(medians))
    found: dict[str, float] = json.loads(made.read_text())
    return found


def command(way: Way) -> list[str]:
    model = str(FOLDER / f"network.{MODELS[way['way']]}")
    if way["way"] == "core":
        program = ROOT / "target/release/examples/throughput"
        callers, threads, passes = "2", str(way["threads"]), str(way["passes"] - 1)
        return [str(program), model, str(FOLDER / "files"), callers, str(way["batch"]), threads, passes]
    settings = {**way, "folder": str(FOLDER), "model": model, "jar": os.environ["SPARKDL_TEST_JAR"]}
    return [sys.executable, str(HERE / "way.py"), json.dumps(settings)]


def run(way: Way) -> dict[str, Any]:
    """One process of a way: pictures per second of its last pass, seconds of its first, peak memory."""
    paths = os.pathsep.join([os.environ["SPARKDL_TEST_SITE"], str(HERE)])
    output, peak = process_tree.run(
        command(way), os.environ | {"PYTHONPATH": paths, "SPARKDL_PYTHON": sys.executable}
    )
    if way["way"] == "core":
        rates = [float(rate) for rate in re.findall(r"([\d.]+) pictures/s", output)]
        return {"rate": rates[-1], "first_pass": PICTURES / rates[0], "peak_mb": peak / 1e6}
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT ")]
    result = json.loads(line.removeprefix("RESULT "))
    rate = result["pictures"] / result["seconds"][-1]
    return {"rate": rate, "first_pass": result["seconds"][0], "peak_mb": peak / 1e6}


def best(name: str) -> Way:
    """The threads per task and the batch with which a rival is fastest."""
    found = []
    for threads, batch in TRIED[name]:
        way = {"way": name, "threads": threads, "batch": batch, "passes": 2}
        rate = run(way)["rate"]
        print(f"  {NAMES[name]}, threads {threads or 'default'}, batch {batch}: {rate:.0f}/s", flush=True)
        found.append((rate, way))
    return max(found, key=lambda pair: pair[0])[1]


def versions() -> dict[str, str]:
    packages = (
        "pyspark",
        "tensorflow-cpu",
        "keras",
        "pillow",
        "onnxruntime",
        "opencv-python-headless",
        "numpy",
    )
    named = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), "cores": str(os.cpu_count()), **named}


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def print_table(ways: dict[str, Way], figures: dict[str, dict[str, float]]) -> None:
    print(f"\n{'way':<40}{'pictures/s':>11}{'peak MB':>9}{'first pass s':>14}  settings")
    for name, figure in figures.items():
        way = ways[name]
        settings = f"batch {way['batch']}, threads {way['threads'] or 'default'}"
        row = f"{figure['rate']:>11.0f}{figure['peak_mb']:>9.0f}{figure['first_pass']:>14.1f}"
        print(f"{NAMES[name]:<40}{row}  {settings}")


def main() -> int:
    made = prepare()
    print(f"{PICTURES} photographs, medians {made}; {versions()}")
    print("What suits the rivals best:")
    names = ("jvm", "sql", "python", "core")
    ours = {name: {"way": name, "threads": 0, "batch": 32, "passes": 2} for name in names}
    ways = {**ours, **{name: best(name) for name in TRIED}}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name, way in ways.items():
            rounds[name].append(run(way))
            print(f"round {number + 1}, {NAMES[name]}: {rounds[name][-1]['rate']:.0f}/s", flush=True)
    figures = {name: medians(runs) for name, runs in rounds.items()}
    print_table(ways, figures)
    ratios = []
    for one, other, bar in BARS:
        ratio = figures[one]["rate"] / figures[other]["rate"]
        ratios.append({"way": one, "against": other, "ratio": ratio, "bar": bar})
        print(f"{NAMES[one]} / {NAMES[other]}: {ratio:.2f} (bar {bar})")
    report = {"photographs": made, "versions": versions(), "ways": ways, "rounds": rounds, "ratios": ratios}
    (ROOT / "dist").mkdir(exist_ok=True)
    (ROOT / "dist/bench.json").write_text(json.dumps(report, indent=2) + "\n")
    print("wrote dist/bench.json")
    return int(any(row["ratio"] < row["bar"] for row in ratios[:2]))


if __name__ == "__main__":
    sys.exit(main())
