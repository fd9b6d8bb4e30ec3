"""What TensorFlow's C API may end the process for, or answer with nonsense: each is a named error of ours.

Every case runs in a process of its own, which must live to tell the error.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparkdl import _engine

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.once

v1 = tf.compat.v1
RUN = """
import json, sys
import pyarrow as pa
from sparkdl import SparkDLError, _engine, _native

_engine.load_tensorflow()
case = json.loads(sys.argv[1])
said = []
try:
    if "convert" in case:
        for file in case["convert"]:
            try:
                _engine.convert_graph(file, case["bundle"], inputs=["x:0"], outputs=["y:0"])
                said.append("")
            except SparkDLError as error:
                said.append(f"{error.kind}: {error}")
    else:
        options = {"model": case["bundle"], "task": "tensors", "inputs": '["x:0"]', "outputs": '["y:0"]'}
        options["allowUnsafeOps"] = "false"
        model = _native.Model(list((options | {"threads": "2"}).items()))
        if case.get("cancelled"):
            model.cancel()
        values = eval(case["column"], {"pa": pa})
        result = pa.record_batch(model.run(pa.record_batch([values], ["x"])))
        said += [text or "" for text in result.column("error").to_pylist()]
except SparkDLError as error:
    said.append(f"{error.kind}: {error}")
print("SAID " + json.dumps(said))
"""


def told(**case: Any) -> list[str]:
    """What a process says of a case; it must end by itself."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(case)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    said: list[str] = json.loads(line.removeprefix("SAID "))
    return said


def definition(function: Any, shape: tuple[int | None, ...] = (None, 3)) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        tf.identity(function(v1.placeholder(tf.float32, shape, "x")), "y")
    return graph.as_graph_def()


def bundle(folder: Path, function: Any = lambda x: x * 2, shape: tuple[int | None, ...] = (None, 3)) -> str:
    (folder / "graph.pb").write_bytes(definition(function, shape).SerializeToString())
    made = folder / "graph.sparkdl"
    _engine.convert_graph(folder / "graph.pb", made, inputs=["x:0"], outputs=["y:0"])
    return str(made)


FLOATS = "pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float32()))"
BATCHES: dict[str, tuple[str, str]] = {
    "null": ("pa.array([None], pa.list_(pa.float32()))", "no value for the input x:0 (null)"),
    "null inside": ("pa.array([[1, None, 3]], pa.list_(pa.float32()))", "a null inside of the value"),
    "short": (
        "pa.array([[1, 2]], pa.list_(pa.float32()))",
        "2 numbers, but the input x:0 takes the shape [3]",
    ),
    "empty": ("pa.array([[]], pa.list_(pa.float32()))", "0 numbers, but the input x:0 takes the shape [3]"),
    "wrong type": ("pa.array([['a', 'b', 'c']])", "InvalidBatch: The column for the input x:0 is of type"),
    "wrong rank": (
        "pa.array([[[1.0, 2.0, 3.0]]], pa.list_(pa.list_(pa.float32())))",
        "InvalidBatch: The column for the input x:0 is of type",
    ),
    "overflow": ("pa.array([[1e300, 0, 0]], pa.list_(pa.float64()))", ""),
}


@pytest.mark.parametrize("case", BATCHES)
def test_batches_that_do_not_fit(case, tmp_path):
    column, expected = BATCHES[case]
    (said,) = told(bundle=bundle(tmp_path), column=column)
    assert expected in said


def test_a_model_that_was_cancelled(tmp_path):
    (said,) = told(bundle=bundle(tmp_path), column=FLOATS, cancelled=True)
    assert said == "Cancelled: The run was cancelled: the handle cannot run again."


def test_a_tensor_larger_than_any_memory(tmp_path):
    """16 TiB of float32."""
    made = bundle(tmp_path, lambda x: tf.fill([tf.shape(x)[0], 1 << 21, 1 << 21], x[0, 0])[:, :3, 0])
    (said,) = told(bundle=made, column=FLOATS)
    assert said.startswith("Execution: Running ")
    assert "TensorFlow reports an error" in said


def test_a_size_that_is_negative_or_overflows(tmp_path):
    for number, size in enumerate((-7, 1 << 62)):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = bundle(
            folder,
            lambda x, size=size: x * tf.reduce_sum(tf.zeros(tf.cast(x[0, :1], tf.int64) + size)),
            (None, 3),
        )
        (said,) = told(bundle=made, column="pa.array([[0.0, 2.0, 3.0]], pa.list_(pa.float32()))")
        assert said.startswith("Execution: Running ")


def rewritten(made: str, change: Any) -> str:
    """The bundle with another manifest."""
    with zipfile.ZipFile(made) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(members["manifest.json"])
    change(about)
    members["manifest.json"] = json.dumps(about).encode()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made


MANIFESTS: dict[str, tuple[Any, str]] = {
    "another side": (
        lambda m: m["inputs"][0].update(shape=[4]),
        "the manifest gives x:0 the shape [4] for each row",
    ),
    "another rank": (
        lambda m: m["inputs"][0].update(shape=[3, 1]),
        "the manifest gives x:0 the shape [3, 1]",
    ),
    "another type": (lambda m: m["inputs"][0].update(dtype="int32"), "x:0 must be of type int32"),
    "no such tensor": (lambda m: m["outputs"][0].update(tensor="z:0"), "its graph has no tensor z:0"),
    "no such output": (lambda m: m["outputs"][0].update(tensor="y:7"), "its graph has no tensor y:7"),
    "a negative side": (lambda m: m["inputs"][0].update(shape=[-3]), "InvalidModel: "),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_that_lie(case, tmp_path):
    change, expected = MANIFESTS[case]
    (said,) = told(bundle=rewritten(bundle(tmp_path), change), column=FLOATS)
    assert expected in said


def test_graphs_that_are_damaged(tmp_path):
    """Cut off, and with bytes changed: an error, or a graph that is none the worse."""
    content = definition(lambda x: tf.nn.relu(x @ tf.ones([3, 2])) + 1).SerializeToString()
    random = np.random.default_rng(5)
    variants = [content[:length] for length in (0, 1, 7, len(content) // 2, len(content) - 1)]
    variants += [random.bytes(200), b"\\xff" * 64]
    for _ in range(150):
        changed = bytearray(content)
        for place in random.integers(0, len(content), 3):
            changed[place] = random.integers(0, 256)
        variants.append(bytes(changed))
    files = []
    for number, variant in enumerate(variants):
        files.append(str(tmp_path / f"{number}.pb"))
        Path(files[-1]).write_bytes(variant)
    said = told(convert=files, bundle=str(tmp_path / "made.sparkdl"))
    assert len(said) == len(variants)
    assert all(text for text in said[:7])
    assert all(text == "" or text.startswith(("InvalidModel: ", "InvalidArgument: ")) for text in said)


def test_graphs_with_dimensions_that_cannot_be(tmp_path):
    graph = definition(lambda x: x * 2)
    for node in graph.node:
        if node.name == "x":
            node.attr["shape"].shape.dim[1].size = -9
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    (said,) = told(convert=[str(tmp_path / "graph.pb")], bundle=str(tmp_path / "made.sparkdl"))
    assert said.startswith("InvalidModel: Cannot use the graph ")
