"""Keras files that are cut, flipped, hostile or of another model, in each of the four forms.

They are refused with file and cause or read as they are, in bounded time and memory.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import hostile
from pictures import encoded
from sparkdl import SparkDLValueError, _engine, _native

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
tf = pytest.importorskip("tensorflow")
L = keras.layers

pytestmark = pytest.mark.once

# What reading may take beside the file's own size.
MEMORY = 64 << 20
# Ten times what the slowest takes on a free machine.
SECONDS = 10.0

# Reads each file of a list in one process; says of each how it ended, what it took, and what it left behind.
READ = """
import json, os, sys, time
from sparkdl import SparkDLError, _engine

def memory(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

for path, name in json.load(open(sys.argv[1])):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, began, said = memory("VmRSS"), time.perf_counter(), ""
    output = path + ".sparkdl"
    try:
        _engine.convert_keras(path, output, name)
    except SparkDLError as error:
        said = f"{type(error).__name__}: {error}"
    took = {"seconds": time.perf_counter() - began, "memory": memory("VmHWM") - before, "said": said}
    left = [name for name in os.listdir(os.path.dirname(path)) if ".sparkdl" in name]
    print(json.dumps(took | {"left": left, "size": os.path.getsize(path)}), flush=True)
    if os.path.exists(output):
        os.unlink(output)
"""


def read_alone(files: list[tuple[Path, str]], folder: Path) -> list[dict[str, Any]]:
    """What a process of its own says of each file, read as the network of a name."""
    listed = folder / "files.json"
    listed.write_text(json.dumps([[str(path), name] for path, name in files]))
    command = [sys.executable, "-c", READ, str(listed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, f"ended by {done.returncode} after {len(done.stdout.splitlines())} files"
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    files = []
    for name, (make, _) in hostile.HOSTILE.items():
        folder = tmp_path_factory.mktemp(name)
        files.append((make(folder), ""))
    told = read_alone(files, tmp_path_factory.mktemp("files"))
    return dict(zip(hostile.HOSTILE, told, strict=True))


def test_the_files_that_hostile_ones_are_made_from_are_read(tmp_path: Path) -> None:
    for path in (hostile.good(tmp_path), hostile.whole(tmp_path)):
        _engine.convert_keras(path, tmp_path / "good.sparkdl", "")


def test_padding_before_a_depthwise_convolution_never_ends_the_process(tmp_path: Path) -> None:
    """TensorFlow aborts on a depthwise convolution with explicit padding: it stays an operation."""
    start = keras.Input((9, 9, 4))
    outputs = []
    for padding in (1, 2, ((0, 1), (0, 1)), ((3, 0), (1, 2))):
        for stride in (1, 2):
            for kind in (L.DepthwiseConv2D(3, strides=stride), L.Conv2D(2, 3, strides=stride)):
                outputs.append(kind(L.ZeroPadding2D(padding)(start)))
    keras.Model(start, outputs).save(tmp_path / "model.keras")
    _engine.convert_keras(tmp_path / "model.keras", tmp_path / "model.sparkdl", "")
    with zipfile.ZipFile(tmp_path / "model.sparkdl") as members:
        graph = tf.compat.v1.GraphDef.FromString(members.read("graph.pb"))
    padding = {(node.op, node.attr["padding"].s) for node in graph.node if "padding" in node.attr}
    assert ("Conv2D", b"EXPLICIT") in padding
    assert ("DepthwiseConv2dNative", b"EXPLICIT") not in padding
    assert ("DepthwiseConv2dNative", b"SAME") in padding


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_hostile_files_are_refused_by_name_and_cause(name: str, found: dict[str, dict[str, Any]]) -> None:
    told = found[name]
    assert told["said"].startswith("SparkDLValueError: "), told
    assert f"{name}0/model." in told["said"], "the file is named"
    assert re.search(hostile.HOSTILE[name][1], told["said"], re.S), told["said"]
    assert len(told["said"]) < 2000
    assert told["seconds"] < SECONDS
    assert told["memory"] <= told["size"] + MEMORY, f"{told['memory'] >> 20} MiB for {told['size'] >> 10} KiB"
    assert told["left"] == []


NAME = "MobileNet_0.25"
FORMS = ("model.keras", "model.h5", "model.weights.h5", "legacy.h5")


def save(model: Any, folder: Path) -> dict[str, Path]:
    """A model in the four forms."""
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    with h5py.File(folder / "legacy.h5", "w") as file:
        save_weights_to_hdf5_group(file, model)
    return {form: folder / form for form in FORMS}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    keras.utils.set_random_seed(7)
    model = keras.applications.MobileNet(
        alpha=0.25, weights=None, include_top=False, input_shape=(224, 224, 3)
    )
    return save(model, tmp_path_factory.mktemp("forms"))


def structure(content: bytes, path: Path) -> list[int]:
    """Places of a file that hold no values of arrays: there flips change what is read, not only numbers."""
    values = bytearray(len(content))
    start = content.find(b"\x89HDF")

    def mark(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.size:
            first = start + item.id.get_offset()
            values[first : first + item.id.get_storage_size()] = b"\1" * item.id.get_storage_size()

    inner = path.with_suffix(".inner")
    inner.write_bytes(content[start:])
    with h5py.File(inner) as file:
        file.visititems(mark)
    return [place for place, value in enumerate(values) if not value]


def damaged(path: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """The file cut and flipped at seeded places, with what was done to it."""
    content, rng = path.read_bytes(), random.Random(path.name)
    places = structure(content, path)
    for number in range(count):
        if number % 4 == 0:
            length = rng.randrange(len(content))
            yield f"cut to {length}", content[:length]
            continue
        flipped = bytearray(content)
        chosen = [
            rng.choice(places) if number % 4 < 3 else rng.randrange(len(content))
            for _ in range(number % 3 + 1)
        ]
        for place in chosen:
            flipped[place] ^= 1 << rng.randrange(8)
        yield f"flipped at {chosen}", bytes(flipped)


def read_damaged(path: Path, name: str, count: int, folder: Path) -> list[str]:
    """What was said of each damaged file; nothing where it was read, and then the bundle opens."""
    said = []
    target, bundle = folder / f"damaged-{path.name}", folder / "damaged.sparkdl"
    for what, content in damaged(path, count):
        target.write_bytes(content)
        began = time.perf_counter()
        try:
            _engine.convert_keras(target, bundle, name)
            _engine.describe_bundle(bundle)
            said.append("")
        except SparkDLValueError as error:
            said.append(str(error))
        except Exception as error:
            error.add_note(what)
            raise
        assert not said[-1] or target.name in said[-1], f"{what}: {said[-1]}"
        assert "defect" not in said[-1], f"{what}: {said[-1]}"
        assert time.perf_counter() - began < SECONDS, what
        assert not what.startswith("cut") or said[-1], f"{what}: was read"
    return said


@pytest.mark.parametrize("form", FORMS)
def test_cut_and_flipped_files_are_refused_or_harmless(
    form: str, forms: dict[str, Path], tmp_path: Path
) -> None:
    said = read_damaged(forms[form], NAME, 160, tmp_path)
    read = said.count("")
    # Zip has checksums of everything but its own numbers; in HDF5 much of the structure is empty room.
    assert read <= 8 if form == "model.keras" else 20 < read < 120


@pytest.mark.parametrize("form", FORMS)
def test_files_of_another_model_are_refused(form: str, forms: dict[str, Path], tmp_path: Path) -> None:
    # A whole file says itself how wide its network is.
    alone = ["MobileNet"] if form in ("model.weights.h5", "legacy.h5") else []
    for name in (*alone, "VGG16", "EfficientNetB0"):
        with pytest.raises(
            SparkDLValueError, match=r"it is no|belong to another model|but the model has|it has no"
        ) as caught:
            _engine.convert_keras(forms[form], tmp_path / "other.sparkdl", name)
        assert form in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*HDF5.*")
def test_reading_takes_little_more_memory_than_the_file(forms: dict[str, Path], tmp_path: Path) -> None:
    """One array of 96 MB, several of 16 MB, a layer called often, and a network; packed and not."""
    keras.utils.set_random_seed(1)
    large = keras.Sequential([keras.Input((2048,)), L.Dense(12288)])
    many = keras.Sequential([keras.Input((2048,)), *(L.Dense(2048) for _ in range(5))])
    start, often = keras.Input((2048,)), L.Dense(2048)
    tensor = start
    for _ in range(12):
        tensor = often(tensor)
    files = []
    for name, model in {"large": large, "many": many, "often": keras.Model(start, tensor)}.items():
        for suffix in (".keras", ".h5"):
            model.save(tmp_path / f"{name}{suffix}")
            files.append((tmp_path / f"{name}{suffix}", ""))
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(files[0][0]) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as members:
        for member in plain.namelist():
            members.writestr(member, plain.read(member))
    files += [(packed, ""), *((path, NAME) for path in forms.values())]
    for (path, _), told in zip(files, read_alone(files, tmp_path), strict=True):
        assert told["said"] == ""
        assert told["memory"] <= told["size"] + MEMORY, f"{path.name}: {told['memory'] >> 20} MiB"


REAL = {
    "mobilenet_0.25_224.keras": "MobileNet",
    "mobilenet_0.25_224.h5": "MobileNet",
    "mobilenet_0.25_224.weights.h5": NAME,
    "mobilenet_2_5_224_tf.h5": NAME,
}


@pytest.mark.parametrize("form", REAL)
def test_real_weights_that_are_damaged_or_of_another_family_are_refused(
    form: str, shared_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / form
    path.write_bytes((shared_data / "models" / form).read_bytes())
    said = read_damaged(path, REAL[form], 40, tmp_path)
    assert said.count("") <= 2 if form.endswith(".keras") else 4 < said.count("") < 30
    with pytest.raises(SparkDLValueError, match=r"it is no VGG16|belong to another model|but the model has"):
        _engine.convert_keras(path, tmp_path / "other.sparkdl", "VGG16")


@pytest.mark.parametrize("form", REAL)
def test_real_weights_name_photographs_as_keras_does(form: str, shared_data: Path, tmp_path: Path) -> None:
    """The same five best classes, in the same order, on photographs of four sources."""
    data, samples = pytest.importorskip("skimage.data"), pytest.importorskip("sklearn.datasets")
    pixels = [samples.load_sample_image("china.jpg"), data.coffee(), data.chelsea(), data.rocket()]
    flowers = [sorted(folder.glob("*.jpg"))[0] for folder in sorted((shared_data / "flowers").iterdir())]
    pixels += [np.asarray(Image.open(flower).convert("RGB")) for flower in flowers]
    model = keras.saving.load_model(shared_data / "models" / "mobilenet_0.25_224.keras", compile=False)
    sized = [Image.fromarray(p).resize((224, 224), Image.Resampling.BILINEAR) for p in pixels]
    floats = np.stack([np.asarray(p, "float32") / 127.5 - 1 for p in sized])
    expected = np.argsort(-model.predict(floats, verbose=0))[:, :5]
    bundle = tmp_path / "real.sparkdl"
    _engine.convert_keras(shared_data / "models" / form, bundle, REAL[form])
    _native.load_tensorflow([("tensorflowPath", ""), ("tensorflowClasspath", ""), ("python", sys.executable)])
    options = OPTIONS | {"model": str(bundle)}
    batch = pa.record_batch([pa.array([encoded(np.asarray(p)) for p in sized], pa.binary())], ["content"])
    result = pa.record_batch(_native.Model(list(options.items())).run(batch))
    assert result.column("error").null_count == len(pixels)
    index = json.loads((shared_data / "imagenet_class_index.json").read_text())
    wanted = [[index[str(place)][0] for place in row] for row in expected]
    assert [[top["class"] for top in row] for row in result.column("output").to_pylist()] == wanted


OPTIONS = {
    "task": "topK",
    "pooling": "avg",
    "topK": "5",
    "labels": "",
    "scaleHint": "SCALE_BILINEAR",
    "resizeMode": "stretch",
    "maxPixels": "89478485",
    "applyExifOrientation": "false",
    "fastDecode": "false",
    "threads": "2",
}
