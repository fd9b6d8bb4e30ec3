"""Trials of a search, on one slot and on two, beside a plain loop of Keras over the same shards.

Part of `make bench`. The same trials (a MobileNet that is trained whole, a learning rate each) three ways:
one by one on one slot, side by side on two, and in a loop of `model.fit` over arrays in memory, in a process
that starts TensorFlow once. A slot is a core, so the loop has one thread. Times are of the whole `fit`;
pictures are decoded before it, and the count says how many were decoded in all. The loop runs before and
after, as the machine may have changed its pace: its mean counts, and the seconds of epochs tell.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import bench
import photos

COUNT, SIDE, CLASSES, BATCH, SEED = 480, 128, 4, 32, 3
TRIALS = int(os.environ.get("SPARKDL_BENCH_TRIALS", "4"))
EPOCHS = int(os.environ.get("SPARKDL_BENCH_EPOCHS", "10"))
FOLDER = bench.ROOT / "target/bench/trials"
BARS = {"two slots / one slot": 0.6, "one slot / plain loop of Keras": 1.15}
MAKE = f"""
import sys, keras
keras.utils.set_random_seed({SEED})
shape = ({SIDE}, {SIDE}, 3)
body = keras.applications.MobileNet(shape, 0.25, include_top=False, weights=None, pooling="avg")
scores = keras.layers.Dense({CLASSES}, "softmax")(body.output)
keras.Model(body.input, scores, name="bench").save(sys.argv[1])
"""


def rates() -> list[float]:
    """A learning rate for each trial."""
    return [1e-3 / 2**trial for trial in range(TRIALS)]


@dataclass(frozen=True)
class Took:
    """What a way took."""

    whole: float
    """Seconds."""
    epoch: float
    """Seconds of an epoch after the first, in which TensorFlow makes its graph: their median."""


def search(spark: Any, parallelism: int, rates: list[float], epochs: int) -> Took:
    """A fit."""
    from sparkdl import KerasImageFileEstimator

    files = sorted((FOLDER / "files").iterdir())
    frame = spark.createDataFrame(
        [(str(f), n % CLASSES) for n, f in enumerate(files)], "uri string, label int"
    )
    estimator = KerasImageFileEstimator(
        inputCol="uri",
        outputCol="scores",
        modelFile=str(FOLDER / "model.keras"),
        preprocessing="tf",
        kerasLoss="categorical_crossentropy",
        epochs=epochs,
        batchSize=BATCH,
        seed=SEED,
        parallelism=parallelism,
        workDir=str(FOLDER / "work"),
        kerasFitParams={"verbose": 0},
    )
    # Finished trials are taken up from there, which is not what is timed.
    shutil.rmtree(FOLDER / "work/trials", ignore_errors=True)
    since = time.monotonic()
    models = estimator.fit(frame, [{estimator.learningRate: rate} for rate in rates])
    took = time.monotonic() - since
    assert all(len(model.history) == epochs for model in models)
    return Took(took, _later([[row["seconds"] for row in model.history] for model in models]))


def _later(epochs: list[list[float]]) -> float:
    return statistics.median([seconds for trial in epochs for seconds in trial[1:] or trial])


def plain() -> Took:
    """A loop of `model.fit`, of which reading the shards is a part."""
    command = [sys.executable, __file__, "plain"]
    since = time.monotonic()
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        command, check=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return Took(time.monotonic() - since, _later(json.loads(done.stdout)))


def loop() -> None:
    """What a person would write over the shards that are there."""
    import keras
    import numpy as np
    import pyarrow.parquet as pq
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tables = [pq.read_table(file) for file in (FOLDER / "work/pictures").rglob("*.parquet")]
    pixels = b"".join(value for table in tables for value in table["pixels"].to_pylist())
    x = np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE, 3).astype(np.float32) / 127.5 - 1
    y = np.eye(CLASSES, dtype=np.float32)[np.arange(len(x)) % CLASSES]
    assert len(x) == COUNT
    seconds = list[list[float]]()

    class Times(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.since = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds[-1].append(time.monotonic() - self.since)

    for rate in rates():
        seconds.append([])
        keras.utils.set_random_seed(SEED)
        tf.config.experimental.enable_op_determinism()  # as ours with a seed
        model = keras.saving.load_model(FOLDER / "model.keras", compile=False)
        model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy")
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[Times()])
        model.save(FOLDER / "plain.keras")
    print(json.dumps(seconds))


def decoded() -> int:
    """How many pictures were decoded into the working folder."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in (FOLDER / "work/pictures").rglob("*.parquet"))


def prepare() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "files").exists():
        photos.write(FOLDER, COUNT)
    if not (FOLDER / "model.keras").exists():
        subprocess.run([sys.executable, "-c", MAKE, str(FOLDER / "model.keras")], check=True)


def main() -> None:
    from pyspark.sql import SparkSession

    prepare()
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    search(spark, 1, [1e-3], 1)  # decodes the pictures
    before = plain()
    one, two = search(spark, 1, rates(), EPOCHS), search(spark, 2, rates(), EPOCHS)
    after = plain()
    keras = Took((before.whole + after.whole) / 2, (before.epoch + after.epoch) / 2)
    ways = {"one slot": one, "two slots": two, "plain loop of Keras": keras}
    ratios = {
        "two slots / one slot": two.whole / one.whole,
        "one slot / plain loop of Keras": one.whole / keras.whole,
    }
    print(f"{TRIALS} trials of {EPOCHS} epochs over {COUNT} pictures, of which {decoded()} were decoded")
    for name, took in ways.items():
        print(f"  {name}: {took.whole:.0f} s, an epoch {took.epoch:.2f} s")
    print(f"  the loop before and after: {before.whole:.0f} s and {after.whole:.0f} s")
    for name, ratio in ratios.items():
        print(f"  {name}: {ratio:.2f} (bar {BARS[name]})")
    report = {"ways": {name: asdict(took) for name, took in ways.items()}, "ratios": ratios, "bars": BARS}
    file = bench.ROOT / "dist/bench_trials.json"
    file.write_text(json.dumps({**report, "decoded": decoded()}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["plain"]:
        loop()
    else:
        main()
