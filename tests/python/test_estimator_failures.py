"""Trials that end badly, code of the caller's in them, and memory that stays flat."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import keras_models
from sparkdl import KerasEstimator, SparkDLError, SparkDLValueError
from sparkdl.estimators import trial_task

keras = pytest.importorskip("keras")
helpers = pytest.importorskip("training_helpers")


@pytest.fixture(scope="module")
def frame(spark):
    spark.addArtifacts(helpers.__file__, pyfile=True)  # for the workers; the driver has it on its path
    numbers = np.random.default_rng(8).normal(size=(24, 2))
    return spark.createDataFrame(
        [([float(v) for v in row], float(row[0])) for row in numbers], "x array<double>, y double"
    )


def estimator(model, **params):
    fixed = {"kerasFitParams": {"verbose": 0}, "seed": 1, "kerasLoss": "mse"}
    return KerasEstimator(
        inputCol="x", outputCol="scores", labelCol="y", modelFile=model, **{**fixed, **params}
    )


def linear(*before):
    keras.utils.set_random_seed(5)
    return keras.Sequential([keras.Input((2,)), *before, keras.layers.Dense(1, name="only")], name="line")


@pytest.mark.once
def test_a_process_that_is_killed_is_told_with_its_params(frame):
    dying = estimator(linear(), kerasCallbacks=["training_helpers.Killing"], learningRate=0.25)
    with pytest.raises(SparkDLError) as error:
        dying.fit(frame)
    assert "learningRate=0.25" in str(error.value)
    assert "The training process was ended by SIGKILL: most often memory ran out." in str(error.value)


@pytest.mark.once
@pytest.mark.long
def test_custom_objects_and_callbacks_are_imported_by_name(spark, frame, tmp_path):
    file = keras_models.saved(linear(helpers.Doubled()), tmp_path)
    with pytest.raises(SparkDLValueError, match="is not one of Keras' own layers or carries code: refused"):
        estimator(file).fit(frame)
    named = {"tests>Doubled": "training_helpers.Doubled"}
    model = estimator(file, customObjects=named, kerasCallbacks=["training_helpers.Counting"], epochs=2).fit(
        frame
    )
    assert [row["counted"] for row in model.history] == [0.0, 1.0]
    # What the native reader does not know comes as a bundle too, so it scores without the class.
    assert model.getModelFile().endswith(".sparkdl")
    with keras.saving.custom_object_scope({"tests>Doubled": helpers.Doubled}):
        trained = keras.saving.load_model(model.getModelFile().replace(".sparkdl", ".keras"), compile=False)
    rows = model.transform(frame).collect()
    x = np.array([row["x"] for row in rows], np.float32)
    theirs = trained.predict(x, verbose=0)[:, 0]
    np.testing.assert_allclose([row["prediction"] for row in rows], theirs, atol=1e-4)


@pytest.mark.once
def test_a_trial_ends_with_the_process_that_started_it(tmp_path):
    """Killed as Spark kills a worker: without a chance to clean up."""
    script = f"""
import sys, tempfile
sys.path[:0] = {sys.path!r}
from sparkdl.estimators import trial_task
with tempfile.TemporaryFile() as report, tempfile.TemporaryFile() as output:
    print(flush=True)
    request = {{"examine": [{{"wait": 1}}] , "report": "{tmp_path}/fifo"}}
    with trial_task.Process([report], output) as process:
        process.asked(request)
"""
    os.mkfifo(tmp_path / "fifo")  # The process waits for a reader when it wants to report.
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    parent.stdout.readline()
    children = f"/proc/{parent.pid}/task/{parent.pid}/children"
    deadline = time.monotonic() + 60
    while not (found := Path(children).read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    child = Path(f"/proc/{found[0]}/cmdline")
    while child.exists() and child.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.once
def test_rows_are_mapped_and_not_held():
    """Batches of a file of 200 MB take no more memory than a few of them."""
    from sparkdl.estimators import feeding

    count, side = 1000, 200_000
    with tempfile.NamedTemporaryFile() as file, tempfile.NamedTemporaryFile(suffix=".npz") as rows:
        file.truncate(count * side)
        keys = np.array([b"%032d" % n for n in range(count)], "S32")
        np.savez(rows, key=keys, row=np.arange(count), label=np.zeros(count), weight=np.ones(count))
        rows.flush()
        spec = {"rows": rows.name, "inputs": [{"file": file.name, "dtype": "uint8", "shape": [side]}]}
        found = feeding.opened({**spec, "weighted": False})
        batches, _ = feeding.dataset(found, 10, 1)
        before = _anonymous()
        for index in range(len(batches)):
            batches[index]
        assert _anonymous() - before < 40 << 20


@pytest.mark.once
@pytest.mark.parametrize("label", [pa.int32(), pa.float64(), pa.list_(pa.float32())], ids=str)
def test_a_task_holds_one_batch_at_a_time_while_it_writes_them(label, tmp_path):
    """A batch of a stream is one piece of memory, and a view of one of its columns holds all of it."""
    count, rows, side = 8, 10, 100_000
    values = [[1.0]] * rows if pa.types.is_list(label) else [1] * rows
    fixed = {"key": ["00" * 32] * rows, "row": list(range(rows)), "weight": [1.0] * rows}
    columns = {name: pa.array(column) for name, column in fixed.items()}
    batch = pa.record_batch(
        {**columns, "label": pa.array(values, label), "x0": pa.array([bytes(side)] * rows)}
    )
    with pa.OSFile(str(tmp_path / "batches"), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(count):
            writer.write_batch(batch)
    held = []

    def batches(stream):
        for found in stream:
            held.append(pa.total_allocated_bytes() - before)
            yield found

    before = pa.total_allocated_bytes()
    with (
        pa.OSFile(str(tmp_path / "batches")) as file,
        tempfile.TemporaryFile() as target,
        tempfile.TemporaryFile() as others,
    ):
        trial_task._spool(batches(pa.ipc.open_stream(file)), [target], others)
        assert target.tell() == count * rows * side
        others.seek(0)
        assert np.load(others)["row"].tolist() == list(range(rows)) * count
    assert len(held) == count
    assert max(held) < 3 * batch.nbytes


def _anonymous():
    """Bytes that belong to this process alone; pages of mapped files can be let go of."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.once
def test_results_that_are_not_whole_are_not_taken():
    import io
    import json

    said = {"made": ["keras"], "files": {"keras": {"sha256": "0" * 64, "chunks": 1}}, "history": []}
    rows = [{"chunk": -1, "bytes": json.dumps(said).encode()}, {"chunk": 0, "bytes": b"weights"}]
    assert trial_task.result_of(iter(rows), {"keras": io.BytesIO()}) is None
    assert trial_task.result_of(iter([]), {"keras": io.BytesIO()}) is None
