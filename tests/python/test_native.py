"""The compiled module: what it says of itself, Arrow in and out, errors as our exceptions."""

import logging
import pickle
import subprocess
import sys

import pyarrow as pa
import pytest

import sparkdl
from pictures import TINY, encoded, picture
from sparkdl import SparkDLError, SparkDLValueError, _engine, _native

DECODE = {
    "height": "0",
    "width": "0",
    "scaleHint": "SCALE_AREA_AVERAGING",
    "resizeMode": "stretch",
    "maxPixels": "1000000",
    "applyExifOrientation": "false",
    "fastDecode": "false",
    "threads": "1",
}

MODEL = {key: value for key, value in DECODE.items() if key not in ("height", "width")} | {
    "task": "features",
    "pooling": "avg",
    "topK": "5",
    "labels": "",
}


def batch_of(*files):
    return pa.record_batch([pa.array(files, pa.binary())], ["picture"])


def test_importing_sparkdl_loads_no_tensorflow_no_keras_and_starts_no_thread():
    code = (
        "import os, sys\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "import sparkdl\n"
        "assert len(os.listdir('/proc/self/task')) == before\n"
        "heavy = {'tensorflow', 'keras', 'pyspark', 'pyarrow', 'py4j'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from sparkdl import DeepImageFeaturizer\n"
        "heavy = {'tensorflow', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'libtensorflow' not in open('/proc/self/maps').read()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_says_it_is_of_sparkdl():
    for name in sparkdl.__all__:
        assert getattr(sparkdl, name) is not None
    stages = (
        sparkdl.DeepImageFeaturizer,
        sparkdl.DeepImagePredictor,
        sparkdl.KerasEstimator,
        sparkdl.KerasImageFileEstimator,
        sparkdl.KerasImageFileModel,
        sparkdl.KerasImageFileTransformer,
        sparkdl.KerasModel,
        sparkdl.KerasTransformer,
    )
    for public in (*stages, SparkDLError, SparkDLValueError):
        assert public.__module__ == "sparkdl"
    with pytest.raises(AttributeError, match="module 'sparkdl' has no attribute 'Nothing'"):
        sparkdl.Nothing  # noqa: B018


def test_the_kinds_of_error_have_conditions_and_states():
    kinds = _engine.error_kinds()
    assert kinds["InvalidArgument"] == ("SPARKDL_INVALID_ARGUMENT", "22023")
    error = SparkDLError("text", "TensorFlowUnavailable")
    assert (error.getCondition(), error.getSqlState()) == ("SPARKDL_TENSORFLOW_UNAVAILABLE", "58000")


def test_errors_keep_their_kind_when_pickled():
    copy = pickle.loads(pickle.dumps(SparkDLValueError("text", "InvalidModel")))
    assert (type(copy), str(copy), copy.kind) == (SparkDLValueError, "text", "InvalidModel")
    assert isinstance(copy, ValueError)
    assert isinstance(copy, SparkDLError)


def test_a_bundle_is_described_without_tensorflow():
    manifest, digest = _engine.describe_bundle(TINY)
    assert '"Tiny"' in manifest
    assert len(digest) == 64


def test_a_missing_bundle_is_an_error_that_names_the_file():
    with pytest.raises(SparkDLError, match=r"nowhere\.sparkdl"):
        _engine.describe_bundle("/nowhere.sparkdl")


def test_pictures_go_in_and_out_by_arrow_capsules():
    pixels = picture(1)
    result = _engine.decode_images(batch_of(encoded(pixels), b"no picture", None), list(DECODE.items()))
    image = result.column("image")[0].as_py()
    assert (image["height"], image["width"], image["nChannels"], image["mode"]) == (32, 24, 3, 16)
    assert image["data"] == pixels[:, :, ::-1].tobytes()
    assert [reason is None for reason in result.column("error").to_pylist()] == [True, False, False]


def test_a_slice_of_a_batch_is_read_from_its_offset():
    files = [encoded(picture(seed)) for seed in range(3)]
    whole = _engine.decode_images(batch_of(*files), list(DECODE.items()))
    part = _engine.decode_images(batch_of(*files).slice(2, 1), list(DECODE.items()))
    assert part.column("image")[0] == whole.column("image")[2]


def test_an_unknown_option_and_a_missing_one_are_refused():
    with pytest.raises(SparkDLValueError, match="colour") as caught:
        _native.decode_images(batch_of(), [*DECODE.items(), ("colour", "blue")])
    assert caught.value.kind == "InvalidArgument"
    with pytest.raises(SparkDLValueError, match="threads"):
        _native.decode_images(batch_of(), list(DECODE.items())[:-1])


def test_a_column_of_another_type_is_an_invalid_batch():
    with pytest.raises(SparkDLValueError) as caught:
        _native.decode_images(pa.record_batch([pa.array([1, 2])], ["picture"]), list(DECODE.items()))
    assert caught.value.kind == "InvalidBatch"


def test_what_is_not_a_record_batch_is_refused():
    with pytest.raises(SparkDLValueError, match="expected a record batch but found Int64"):
        _native.decode_images(pa.array([1, 2]), list(DECODE.items()))


def test_a_batch_that_was_taken_over_already_is_refused():
    capsules = batch_of(b"").__arrow_c_array__()

    class Twice:
        def __arrow_c_array__(self, requested_schema=None):
            return capsules

    _native.decode_images(Twice(), list(DECODE.items()))
    with pytest.raises(SparkDLValueError, match="this Arrow batch has been taken over already"):
        _native.decode_images(Twice(), list(DECODE.items()))


def test_broken_offsets_are_refused_before_they_are_read():
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 2**30, 4)))
    broken = pa.Array.from_buffers(pa.binary(), 2, [None, offsets, pa.py_buffer(b"abcd")])
    with pytest.raises(SparkDLValueError) as caught:
        _native.decode_images(pa.record_batch([broken], ["picture"]), list(DECODE.items()))
    assert caught.value.kind == "InvalidBatch"


def test_tensorflow_is_found_in_this_python_and_says_so_in_one_line(tmp_path):
    code = (
        "import logging, sys\n"
        f"logging.basicConfig(level=logging.INFO, filename={str(tmp_path / 'log')!r})\n"
        "from sparkdl import _native\n"
        "places = [('tensorflowPath', ''), ('tensorflowClasspath', ''), ('python', sys.executable)]\n"
        "version, library = _native.load_tensorflow(places)\n"
        "assert (version, library) == _native.load_tensorflow(places)\n"
        "assert version.startswith('2.') and 'libtensorflow' in library, (version, library)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("INFO:sparkdl")
    assert "TensorFlow 2." in lines[0]


def test_the_bridge_leaves_the_root_logger_alone():
    assert logging.getLogger("sparkdl").handlers == []


def test_a_forked_child_may_not_run_what_its_parent_loaded(tiny):
    """TensorFlow's threads and locks do not live on in a fork: the child must be told, not hang."""
    code = (
        "import os, sys, pyarrow as pa\n"
        "from sparkdl import SparkDLError, _native\n"
        "places = [('tensorflowPath', ''), ('tensorflowClasspath', ''), ('python', sys.executable)]\n"
        "_native.load_tensorflow(places)\n"
        f"model = _native.Model({list(MODEL.items())!r} + [('model', {tiny!r})])\n"
        "batch = pa.record_batch([pa.array([b'no picture'])], ['picture'])\n"
        "model.run(batch)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        model.run(batch)\n"
        "        os._exit(1)\n"
        "    except SparkDLError as error:\n"
        "        os._exit(0 if 'fork' in str(error) else 2)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert os.waitstatus_to_exitcode(status) == 0, status\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
