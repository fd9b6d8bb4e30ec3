"""The Keras and TensorFlow stages beside what people write by hand, `local[2]`; part of `make bench`.

`KerasTransformer`: rows of 1,000 floats through three dense layers, beside Spark's `predict_batch_udf`.
`TFTransformer`: a million such rows through one dense layer of 1,000, beside `predict_batch_udf` too.
`KerasImageFileTransformer`: files named by a column through MobileNetV2, beside a pandas UDF with Pillow.
Each way runs in its own process, round after round; its figure is the median of its rounds' last pass.
"""

import json
import os
import statistics
import subprocess
import sys

import bench
import process_tree

ROUNDS = int(os.environ.get("SPARKDL_BENCH_ROUNDS", "3"))
ROWS = 20_000
FOLDER = bench.ROOT / "target/bench/rows"
PAIRS = {
    "rows": ("predict_batch_udf", 3.0),
    "graph": ("predict_batch_udf", 3.0),
    "files": ("pandas_udf + Pillow + keras.predict", 2.5),
}
MAKE = f"""
import sys, keras, numpy as np, pyarrow as pa, pyarrow.parquet as pq
keras.utils.set_random_seed(5)
dense = [keras.layers.Dense(1000, "relu"), keras.layers.Dense(1000, "relu"), keras.layers.Dense(10)]
keras.Sequential([keras.Input((1000,)), *dense]).save(sys.argv[1] + "/dense.keras")
layer = keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1000)])
layer.save(sys.argv[1] + "/layer.keras")
layer.export(sys.argv[1] + "/layer", verbose=False)
numbers = np.random.default_rng(5).normal(size=({ROWS}, 1000)).astype("float32")
column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 1000).cast(pa.list_(pa.float32()))
pq.write_table(pa.table({{"numbers": column}}), sys.argv[1] + "/rows.parquet", row_group_size=1000)
"""


def run(task: str, face: str) -> tuple[float, float]:
    """Rows per second and peak memory, MB."""
    settings = {
        "way": face,
        "task": task,
        "threads": 0,
        "batch": 32 if task == "files" else 1024,
        "passes": 1 if task == "graph" else 2,
    }
    settings |= {"folder": str(FOLDER), "files": str(bench.FOLDER), "jar": os.environ["SPARKDL_TEST_JAR"]}
    paths = os.pathsep.join([os.environ["SPARKDL_TEST_SITE"], str(bench.HERE)])
    command = [sys.executable, str(bench.HERE / "keras_way.py"), json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": paths, "SPARKDL_PYTHON": sys.executable}
    output, peak = process_tree.run(command, environment)
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT ")]
    result = json.loads(line.removeprefix("RESULT "))
    return result["rows"] / result["seconds"][-1], peak / 1e6


def main() -> None:
    bench.prepare()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "layer").exists():
        subprocess.run([sys.executable, "-c", MAKE, str(FOLDER)], check=True, stderr=subprocess.DEVNULL)
    report = {}
    for task, (rival, bar) in PAIRS.items():
        found: dict[str, list[tuple[float, float]]] = {"jvm": [], "sql": [], "python": [], "rival": []}
        if task == "files":  # No function takes names of files.
            del found["sql"]
        for _ in range(ROUNDS):
            for face, runs in found.items():
                runs.append(run(task, face))
        medians = {
            face: [statistics.median(values) for values in zip(*runs, strict=True)]
            for face, runs in found.items()
        }
        names = bench.NAMES | {"rival": rival}
        print(f"{task}: rows per second, peak MB")
        for face, (rate, peak) in medians.items():
            print(f"  {names[face]:<40}{rate:>9.0f}{peak:>8.0f}")
        ratios = {face: rate / medians["rival"][0] for face, (rate, _) in medians.items() if face != "rival"}
        shown = ", ".join(
            f"{names[face].removeprefix('ours, ')} {ratio:.2f}" for face, ratio in ratios.items()
        )
        print(f"  ours / {rival}: {shown} (bar {bar})")
        report[task] = {"figures": medians, "ratios": ratios, "bar": bar}
    (bench.ROOT / "dist/bench_keras_stages.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
