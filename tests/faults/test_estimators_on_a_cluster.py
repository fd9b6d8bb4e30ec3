"""Trials on executors of their own: one that is lost costs no trial; rows may be more than memory."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import keras_models
from sparkdl import KerasEstimator

keras = pytest.importorskip("keras")
helpers = pytest.importorskip("training_helpers")

MIB = 1 << 20
MODULE = "sparkdl.estimators.trial_process"

pytestmark = pytest.mark.long


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Opens a session with executors in processes of their own: `cluster(executors, MiB of each)`."""
    from pyspark.sql import SparkSession

    monkeypatch.setenv("SPARKDL_PATH", "python")
    monkeypatch.setenv("SPARKDL_CACHE_DIR", str(tmp_path / "cache"))
    opened = []

    def open_cluster(executors, memory):
        builder = SparkSession.builder.master(f"local-cluster[{executors},1,{memory}]")
        options = {
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.executor.memory": f"{memory}m",
            "spark.local.dir": str(tmp_path / "local"),
        }
        for key, value in options.items():
            builder = builder.config(key, value)
        spark = builder.getOrCreate()
        opened.append(spark)
        spark.addArtifacts(helpers.__file__, pyfile=True)
        return spark

    yield open_cluster
    for spark in opened:
        spark.stop()


def estimator(tmp_path, inputs, **params):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(1, name="only")])
    return KerasEstimator(
        inputCol="x",
        outputCol="scores",
        labelCol="y",
        modelFile=keras_models.saved(model, tmp_path),
        kerasLoss="mse",
        seed=3,
        workDir=str(tmp_path / "work"),
        kerasFitParams={"verbose": 0},
        **params,
    )


def trials():
    """The processes that train, each with its ancestors, nearest first: the server that forked it, …"""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and MODULE in command(folder.name):
            pid, server, *above = int(folder.name), *ancestors(int(folder.name))
            if MODULE in command(server):
                found.append([pid, server, *above])
    return found


def ancestors(pid):
    while True:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        pid = int(stat.rpartition(")")[2].split()[1])
        if pid <= 1:
            return
        yield pid


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_an_executor_that_is_killed_loses_no_trial(cluster, tmp_path):
    spark = cluster(2, 1024)
    numbers = np.random.default_rng(1).normal(size=(20, 2))
    frame = spark.createDataFrame(
        [([float(v) for v in row], float(row[0])) for row in numbers], "x array<double>, y double"
    )
    slow = estimator(tmp_path, 2, epochs=12, kerasCallbacks=["training_helpers.Slow"])
    killed = []

    def kill():
        """Ends the executor of the first trial that trains, as the system does when memory runs out."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            for pid, *above in trials():
                executor = [one for one in above if "CoarseGrainedExecutorBackend" in command(one)]
                if executor:
                    time.sleep(2)
                    os.kill(executor[0], signal.SIGKILL)
                    killed.append((executor[0], pid))
                    return
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    maps = [{slow.learningRate: rate} for rate in (0.01, 0.1, 0.2)]
    models = slow.fit(frame, maps)
    killer.join()
    assert len(killed) == 1
    assert [len(model.history) for model in models] == [12, 12, 12]
    assert not Path(f"/proc/{killed[0][1]}").exists()  # The trial went with its executor.


def test_data_of_four_times_the_memory_of_an_executor_trains(cluster, tmp_path):
    allowance, size, rows = 512 * MIB, 100_000, 5_400
    spark = cluster(1, 512)
    values = f"array_repeat(cast(id as float) / {rows}, {size})"
    frame = spark.range(0, rows, 1, 27).selectExpr(f"{values} as x", "cast(id % 7 as double) as y")
    assert rows * size * 4 > 4 * allowance
    most = {}
    done = threading.Event()

    def watch():
        while not done.wait(0.1):
            for pid in trained_by(os.getpid()):
                most[pid] = max(most.get(pid, 0), anonymous(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        model = estimator(tmp_path, size, epochs=1, batchSize=16, learningRate=1e-5).fit(frame)
    finally:
        done.set()
        watcher.join()
    assert len(model.history) == 1
    held = sorted(round(value / MIB) for value in most.values())
    print(f"{rows * size * 4 / MIB:.0f} MiB of rows; most that Python processes of the executor held: {held}")
    assert held[-1] < 2 * allowance / MIB


def trained_by(driver):
    """The Python processes of executors: their workers, and what trains."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            above = list(ancestors(int(folder.name)))
            if driver in above and any("CoarseGrainedExecutorBackend" in command(one) for one in above):
                yield int(folder.name)


def anonymous(pid):
    """The bytes that a process holds besides what it has mapped from files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
