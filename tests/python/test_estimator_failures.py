"""Trials that end badly, code of the caller's in them, and memory that stays flat."""

import json
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
    parent = subprocess.Popen([sys.executable, "-c", asking(tmp_path, "time.sleep(600)")])
    child = Path(f"/proc/{told(tmp_path)}/cmdline")
    assert child.read_bytes()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while child.exists() and child.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.once
def test_each_request_has_a_process_of_its_own_and_what_it_says_is_told(tmp_path):
    """Numbers that nobody seeded differ, and what is printed before an end without a report is found."""
    body = "import numpy, random; print(random.random(), numpy.random.rand(), flush=True); os._exit(3)"
    script = asking(tmp_path, body, "for _ in range(2): print(json.dumps(ask()), flush=True)")
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    first, second = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["error"] == second["error"] == "The training process ended with code 3 and no report."
    for mine, other in zip(first["traceback"].split(), second["traceback"].split(), strict=True):
        assert float(mine) != float(other)


@pytest.mark.once
def test_a_server_that_ended_is_started_again(tmp_path):
    tries = "print(json.dumps(ask()))\nos.kill(server(), 9)\nprint(json.dumps(ask()))"
    script = asking(tmp_path, "os._exit(4)", tries)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert [json.loads(line)["error"] for line in done.stdout.splitlines()] == [
        "The training process ended with code 4 and no report."
    ] * 2


def asking(folder, body, then="ask()"):
    """A program with `ask`, whose process runs `body` and tells its number, and `server`, the server's."""
    told = folder / "told"
    (folder / "asked.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(told)!r}).write_text(str(os.getpid()))\n{body}\n"
    )
    return f"""
import json, os, sys
sys.path[:0] = {[str(folder), *sys.path]!r}
from sparkdl.estimators import fork_server
def ask():
    return fork_server.asked({{"examine": [{{"customObjects": {{"x": "asked.Name"}}, "file": ""}}]}})
def server():
    return fork_server._running[0]._process.pid
{then}
"""


def told(folder):
    """The process of a request, once it runs."""
    deadline = time.monotonic() + 60
    while not (file := folder / "told").exists() or not file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(file.read_text())


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
        batches = feeding.endless(found, 10, 1)
        before = _anonymous()
        for _ in batches.take(feeding.steps(found, 10)):
            pass
        assert _anonymous() - before < 40 << 20


@pytest.mark.once
def test_feeding_leaves_the_allocator_as_it_is():
    """What was freed is used again: a generator of TensorFlow would have every tensor mapped afresh."""
    script = f"""
import ctypes, sys
sys.path[:0] = {sys.path!r}
import numpy as np
from sparkdl.estimators import feeding

keys = np.array([b"%032d" % n for n in range(8)], "S32")
rows = feeding.Rows([np.zeros((8, 4), np.float32)], [None], np.arange(8), keys, np.zeros(8, np.float32), None)
for batches in feeding.endless(rows, 2, 1).take(4), feeding.once(rows, 2):
    assert len([batch for batch in batches]) == 4

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks rest".split()] + [
        ("more", ctypes.c_size_t * 5)
    ]

c = ctypes.CDLL(None)
c.mallinfo2.restype, c.malloc.restype = Info, ctypes.c_void_p
c.malloc.argtypes, c.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
c.free(c.malloc(16 << 20))  # Raises the size from which memory is mapped.
before = c.mallinfo2().hblks
c.malloc(8 << 20)
sys.exit(c.mallinfo2().hblks - before)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


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
