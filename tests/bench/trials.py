"""Trials of a search, on one slot and on two, beside a plain loop of Keras over the same shards.

Part of `make bench`. The same trials (a MobileNet that is trained whole, a learning rate each) three times:
one by one on one slot, side by side on two, and in a loop of `model.fit` over arrays in memory, in a process
that starts TensorFlow once. A slot is a core, so the loop has one thread. Times are of the whole `fit`;
pictures are decoded before it, and the count says how many were decoded in all.
"""

import json
import os
import shutil
import subprocess
import sys
import time
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


def search(spark: Any, parallelism: int, rates: list[float], epochs: int) -> float:
    """The seconds of a fit."""
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
    assert all(len(model.history) == epochs for model in models)
    return time.monotonic() - since


def plain() -> float:
    """The seconds of a loop of `model.fit`, of which reading the shards is a part."""
    command = [sys.executable, __file__, "plain"]
    since = time.monotonic()
    subprocess.run(
        command, check=True, env=os.environ | {"KERAS_BACKEND": "tensorflow"}, stderr=subprocess.DEVNULL
    )
    return time.monotonic() - since


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
    for rate in rates():
        keras.utils.set_random_seed(SEED)
        tf.config.experimental.enable_op_determinism()  # as ours with a seed
        model = keras.saving.load_model(FOLDER / "model.keras", compile=False)
        model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy")
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        model.save(FOLDER / "plain.keras")


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
    one, two, keras = search(spark, 1, rates(), EPOCHS), search(spark, 2, rates(), EPOCHS), plain()
    ratios = {"two slots / one slot": two / one, "one slot / plain loop of Keras": one / keras}
    print(f"{TRIALS} trials of {EPOCHS} epochs over {COUNT} pictures, of which {decoded()} were decoded")
    print(f"  one slot {one:.0f} s, two slots {two:.0f} s, plain loop of Keras {keras:.0f} s")
    for name, ratio in ratios.items():
        print(f"  {name}: {ratio:.2f} (bar {BARS[name]})")
    report = {"seconds": {"one": one, "two": two, "plain": keras}, "ratios": ratios, "decoded": decoded()}
    (bench.ROOT / "dist/bench_trials.json").write_text(json.dumps({**report, "bars": BARS}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["plain"]:
        loop()
    else:
        main()
