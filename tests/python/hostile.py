"""Keras files that no honest program writes: each function makes one in a folder and gives its path.

Most start from a model of one Dense layer, 4 to 3, whose kernel is `layers/dense/vars/0` of the weights.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
Json = dict[str, Any]
Maker = Callable[[Path], Path]

# By the name of the function: how the file is made, and what must be said of it.
HOSTILE: dict[str, tuple[Maker, str]] = {}


def refused(pattern: str) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        HOSTILE[maker.__name__] = (maker, pattern)
        return maker

    return add


def layer(kind: str, name: str, origins: list[str], shape: Any = None, **arguments: Any) -> Json:
    """One entry of a Functional model, each of whose inputs is the first output of a layer."""
    config = {"name": name, "trainable": True, **arguments} | ({"batch_shape": shape} if shape else {})
    calls = [[[origin, 0, 0, {}] for origin in origins]] if origins else []
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": calls}


def functional(layers: list[Json], first: str, last: str) -> Json:
    ends = {"input_layers": [[first, 0, 0]], "output_layers": [[last, 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "model", "layers": layers, **ends}}


def dense(units: int = 3, shape: Any = (None, 4)) -> Json:
    layers = [layer("InputLayer", "in", [], shape), layer("Dense", "dense", ["in"], units=units)]
    return functional(layers, "in", "dense")


def chain(*layers: Json, shape: Any = (None, 4)) -> Json:
    """A Functional model whose layers follow each other."""
    first = layer("InputLayer", "in", [], shape)
    for before, entry in zip((first, *layers), layers, strict=False):
        entry["inbound_nodes"] = [[[before["name"], 0, 0, {}]]]
    return functional([first, *layers], "in", layers[-1]["name"])


def weights(fill: Callable[[h5py.File], None] | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        if fill:
            fill(file)
        else:
            file["layers/dense/vars/0"] = np.ones((4, 3), "float32")
            file["layers/dense/vars/1"] = np.ones(3, "float32")
    return buffer.getvalue()


def keras_file(folder: Path, config: Json | str, inside: bytes, name: str = "model.keras") -> Path:
    path = folder / name
    text = config if isinstance(config, str) else json.dumps(config)
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        members.writestr(CONFIG, text)
        members.writestr(WEIGHTS, inside)
    return path


def good(folder: Path) -> Path:
    return keras_file(folder, dense(), weights())


def with_member(folder: Path, name: str | zipfile.ZipInfo) -> Path:
    path = good(folder)
    with zipfile.ZipFile(path, "a") as members:
        members.writestr(name, "x")
    return path


@refused(r"its member \"\.\./outside\.txt\" is not a plain file inside it")
def member_above(folder: Path) -> Path:
    return with_member(folder, "../outside.txt")


@refused(r"its member \"/tmp/outside\.txt\" is not a plain file inside it")
def member_absolute(folder: Path) -> Path:
    return with_member(folder, "/tmp/outside.txt")


@refused(r"its member \"link\" is not a plain file inside it")
def member_link(folder: Path) -> Path:
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    return with_member(folder, link)


@refused(r"it has two members of one name")
def member_twice(folder: Path) -> Path:
    return with_member(folder, CONFIG)


@refused(r"its member model\.weights\.h5 is encrypted")
def member_encrypted(folder: Path) -> Path:
    path = good(folder)
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.rindex(signature)
        content[place + flags] |= 1
    path.write_bytes(content)
    return path


@refused(r"its member model\.weights\.h5 claims \d+ bytes, but \d+ are stored")
def member_of_another_size(folder: Path) -> Path:
    path = good(folder)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", 1 << 30)
    path.write_bytes(content)
    return path


def packed(folder: Path, config: bytes, inside: bytes) -> Path:
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as members:
        members.writestr(CONFIG, config)
        members.writestr(WEIGHTS, inside)
    return path


@refused(r"its member config\.json claims 67108864 bytes from \d+, more than 100 to 1")
def bomb_of_a_config(folder: Path) -> Path:
    return packed(folder, b" " * (64 << 20), weights())


@refused(r"its member model\.weights\.h5 claims 134217728 bytes from \d+, more than 100 to 1")
def bomb_of_weights(folder: Path) -> Path:
    return packed(folder, json.dumps(dense()).encode(), bytes(128 << 20))


@refused(r"its model\.weights\.h5 claims \d+ bytes from \d+; at most 17179869184 are read, and 16 from each")
def smaller_bomb_of_weights(folder: Path) -> Path:
    block = np.random.default_rng(1).bytes(2000) + bytes(100_000)
    return packed(folder, json.dumps(dense()).encode(), block * 300)


@refused(r"its config\.json has \d+ bytes, at most 8388608 are read")
def long_config(folder: Path) -> Path:
    noise = np.random.default_rng(1).integers(97, 123, 9 << 20, dtype="uint8").tobytes()
    return packed(folder, b'"' + noise + b'"', weights())


@refused(r"its config\.json is made of so many values that they take \d+ MiB, at most 32 are read")
def config_of_many_values(folder: Path) -> Path:
    noise = np.random.default_rng(1).integers(0, 2, 1 << 20)
    return packed(folder, ("[" + ",".join("{}" if n else "[]" for n in noise) + "]").encode(), weights())


@refused(r"its config\.json is not JSON.*recursion limit exceeded")
def nested_json(folder: Path) -> Path:
    return keras_file(folder, '{"a":' * 10_000 + "1" + "}" * 10_000, weights())


@refused(r"its config\.json is made of so many values")
def tens_of_thousands_of_layers(folder: Path) -> Path:
    return keras_file(folder, chain(*(layer("ReLU", f"{n}", []) for n in range(50_000))), weights())


@refused(r"its layers \[\"a\", \"b\"\] have inputs that nothing computes, or wait for each other")
def circle_of_layers(folder: Path) -> Path:
    layers = [
        layer("InputLayer", "in", [], [None, 4]),
        layer("Add", "a", ["in", "b"]),
        layer("ReLU", "b", ["a"]),
    ]
    return keras_file(folder, functional(layers, "in", "b"), weights())


def doubled(depth: int) -> Json:
    """A model that calls the one inside of it twice, and so on."""
    model = chain(layer("ReLU", "relu", []))
    for number in range(depth):
        inner = {"class_name": "Functional", "config": model["config"], "name": f"m{number}"}
        calls = [[["in", 0, 0, {}]], [[f"m{number}", 0, 0, {}]]]
        layers = [layer("InputLayer", "in", [], [None, 4]), inner | {"inbound_nodes": calls}]
        model = functional(layers, "in", f"m{number}")
        model["config"]["output_layers"] = [[f"m{number}", 1, 0]]
    return model


@refused(r"its models are nested more than 16 deep")
def nested_models(folder: Path) -> Path:
    return keras_file(folder, doubled(20), weights())


@refused(r"it calls its layers more than 100000 times")
def models_that_double(folder: Path) -> Path:
    model = doubled(15)
    model["config"]["layers"][1]["inbound_nodes"] += [[["m14", n, 0, {}]] for n in range(1, 7)]
    model["config"]["output_layers"] = [["m14", 7, 0]]
    return keras_file(folder, model, weights())


@refused(r"its input has the shape .*1152921504606846976.*, more than 2147483647 values")
def shape_of_2_60(folder: Path) -> Path:
    return keras_file(folder, dense(shape=[None, 1 << 60]), weights())


@refused(r"its input in has no shape")
def negative_shape(folder: Path) -> Path:
    return keras_file(folder, dense(shape=[None, -4]), weights())


@refused(r"its input has the shape .*, which has no values")
def empty_shape(folder: Path) -> Path:
    return keras_file(folder, dense(shape=[None, 0]), weights())


@refused(r"its input has 1001 dimensions, at most 8 are built")
def shape_of_many_sides(folder: Path) -> Path:
    return keras_file(folder, chain(layer("Flatten", "f", []), shape=[None] + [2] * 1000), weights())


@refused(r"the layer up1 \(UpSampling2D\).*its output has the shape .*, more than 2147483647 values")
def growing_pictures(folder: Path) -> Path:
    layers = (layer("UpSampling2D", f"up{n}", [], size=[3000, 3000]) for n in range(8))
    return keras_file(folder, chain(*layers, shape=[None, 1, 1, 1]), weights())


@refused(
    r"the layer conv \(DepthwiseConv2D\).*a dilation of \[16000000, 16000000\] makes its kernel too large"
)
def dilated_kernel(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        file["layers/depthwise_conv2d/vars/0"] = np.ones((2, 2, 3, 1), "float32")

    conv = layer("DepthwiseConv2D", "conv", [], kernel_size=2, dilation_rate=16_000_000, strides=1)
    conv["config"] |= {"depth_multiplier": 1, "padding": "same", "use_bias": False}
    return keras_file(folder, chain(conv, shape=[None, 8, 8, 3]), weights(fill))


@refused(r"the layer lstm \(LSTM\).*the graph takes 56 MiB beside its weights")
def unrolled_without_end(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        for number, shape in enumerate([(2, 8), (2, 8), (8,)]):
            file[f"layers/lstm/cell/vars/{number}"] = np.ones(shape, "float32")

    lstm = layer("LSTM", "lstm", [], units=2, return_sequences=True)
    lstm["inbound_nodes"] = [[["in", 0, 0, {}]], *([[["lstm", n, 0, {}]] for n in range(500)])]
    layers = [layer("InputLayer", "in", [], [None, 1000, 2]), lstm]
    model = functional(layers, "in", "lstm")
    model["config"]["output_layers"] = [["lstm", 500, 0]]
    return keras_file(folder, model, weights(fill))


@refused(r"the layer reshape \(Reshape\).*cannot take the shape")
def reshaped_beyond_numbers(folder: Path) -> Path:
    target = [1 << 62, 1 << 62, -1]
    return keras_file(folder, chain(layer("Reshape", "reshape", [], target_shape=target)), weights())


@refused(r"\"a\\0b\" is no name of a layer")
def name_with_nul(folder: Path) -> Path:
    return keras_file(folder, chain(layer("ReLU", "a\0b", [])), weights())


@refused(r"\"n{40}\" is no name of a layer")
def long_name(folder: Path) -> Path:
    return keras_file(folder, chain(layer("ReLU", "n" * 100_000, [])), weights())


@refused(r"its argument units is \[0,0,0,.{1,220}\. Convert the model where Keras is installed")
def long_argument(folder: Path) -> Path:
    return keras_file(folder, chain(layer("Dense", "d", [], units=[0] * 50_000)), weights())


def hdf5_file(folder: Path, config: Json, fill: Callable[[h5py.File], None], **options: Any) -> Path:
    """A whole model in the older layout: `model_weights/dense` with `weight_names`."""

    def all_of(file: h5py.File) -> None:
        file.attrs["model_config"] = json.dumps(config)
        fill(file)

    path = folder / "model.h5"
    path.write_bytes(weights(all_of, **options))
    return path


def named(group: h5py.Group, kernel: bool = True) -> None:
    group.attrs["weight_names"] = np.array([b"kernel", b"bias"])
    if kernel:
        group["kernel"] = np.ones((4, 3), "float32")
    group["bias"] = np.ones(3, "float32")


def whole(folder: Path, **options: Any) -> Path:
    return hdf5_file(folder, dense(), lambda file: named(file.create_group("model_weights/dense")), **options)


@refused(r"its array model_weights/dense/kernel claims the shape \[4, 10000000\], more than its \d+ bytes")
def claimed_dataspace(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights/dense")
        named(group, kernel=False)
        group.create_dataset("kernel", (4, 10_000_000), "float32")  # Never written: no byte of it is there.

    return hdf5_file(folder, dense(10_000_000), fill)


@refused(r"its array model_weights/dense/kernel claims the shape \[16, 16777216\], more than its \d+ bytes")
def packed_chunks(folder: Path) -> Path:
    """A gigabyte of zeros in a megabyte."""

    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights/dense")
        named(group, kernel=False)
        size = 1 << 22
        data = group.create_dataset("kernel", (16, 4 * size), "float32", chunks=(1, size), compression="gzip")
        chunk = zlib.compress(bytes(4 * size), 9)
        for row in range(16):
            for part in range(4):
                data.id.write_direct_chunk((row, part * size), chunk)

    return hdf5_file(folder, dense(1 << 24, [None, 16]), fill)


@refused(r"its array model_weights/dense/kernel is damaged.*limit")
def one_huge_chunk(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights/dense")
        named(group, kernel=False)
        shape, chunk = (4, 3), (1 << 14, 1 << 14)
        data = group.create_dataset(
            "kernel", shape, "float32", chunks=chunk, maxshape=(None, None), compression="gzip"
        )
        data.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 20), 9))

    return hdf5_file(folder, dense(), fill)


@refused(r"it has no kernel of the layer dense \(looked at model_weights/dense\)")
def external_link(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as other:
        named(other.create_group("dense"))

    def fill(file: h5py.File) -> None:
        file.create_group("model_weights")["dense"] = h5py.ExternalLink("other.h5", "/dense")

    return hdf5_file(folder, dense(), fill)


@refused(r"its array model_weights/dense/kernel is damaged.*external")
def external_data(folder: Path) -> Path:
    (folder / "secret.bin").write_bytes(np.ones(12, "float32").tobytes())

    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights/dense")
        named(group, kernel=False)
        external = [(str(folder / "secret.bin"), 0, 48)]
        group.create_dataset("kernel", (4, 3), "float32", external=external)

    return hdf5_file(folder, dense(), fill)


@refused(r"it has no kernel of the layer dense \(looked at model_weights/dense\)")
def links_that_loop(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights")
        group["dense"], group["other"] = (
            h5py.SoftLink("/model_weights/other"),
            h5py.SoftLink("/model_weights/dense"),
        )

    return hdf5_file(folder, dense(), fill)


@refused(r"it has no kernel of the layer dense \(looked at model_weights/dense\)")
def link_out_of_the_file(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        file.create_group("model_weights")["dense"] = h5py.SoftLink("/../../etc/passwd")

    return hdf5_file(folder, dense(), fill)


@refused(r"it has no kernel of the layer dense/dense/.* \(looked at model_weights/dense/dense/")
def deep_groups(folder: Path) -> Path:
    name = "/".join(["dense"] * 150)

    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights")
        for _ in range(10_000):
            group = group.create_group("dense")

    text = json.dumps(dense()).replace('"dense"', json.dumps(name))
    return hdf5_file(folder, json.loads(text), fill)


def patched(path: Path, signature: bytes, offset: int, value: bytes) -> Path:
    """Every structure that begins with the signature, changed at an offset."""
    content = bytearray(path.read_bytes())
    place = content.find(signature)
    while place >= 0:
        content[place + offset : place + offset + len(value)] = value
        place = content.find(signature, place + 1)
    path.write_bytes(content)
    return path


@refused(r"is damaged.*B-tree")
def tree_in_itself(folder: Path) -> Path:
    path = whole(folder)
    content = bytearray(path.read_bytes())
    place = content.find(b"TREE")
    while place >= 0:
        content[place + 5] = 1  # An inner node, whose first child is itself.
        content[place + 32 : place + 40] = struct.pack("<Q", place)
        place = content.find(b"TREE", place + 1)
    path.write_bytes(content)
    return path


@refused(r"it is not a readable HDF5 file.*superblock version")
def unknown_superblock(folder: Path) -> Path:
    return patched(whole(folder), b"\x89HDF", 8, b"\x09")


@refused(r"it is not a readable HDF5 file.*size of offsets")
def superblock_of_other_sizes(folder: Path) -> Path:
    return patched(whole(folder), b"\x89HDF", 13, b"\x03")


@refused(r"its attribute model_config is damaged.*at most 8388608 bytes")
def huge_attribute(folder: Path) -> Path:
    return hdf5_file(folder, dense() | {"more": "x" * (20 << 20)}, lambda file: None)


@refused(r"its attribute weight_names is damaged.*at most 8388608 bytes")
def one_text_for_many(folder: Path) -> Path:
    """References to one text of a megabyte, 3,000 times."""

    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights/dense")
        names = ["x" * (1 << 20), *(["y"] * 2999)]
        group.attrs.create("weight_names", names, dtype=h5py.string_dtype())

    path = hdf5_file(folder, dense(), fill)
    content = path.read_bytes()
    place = content.index(struct.pack("<I", 1 << 20))
    while struct.unpack_from("<I", content, place + 16)[0] != 1:
        place = content.index(struct.pack("<I", 1 << 20), place + 1)
    path.write_bytes(content[:place] + content[place : place + 16] * 3000 + content[place + 48_000 :])
    return path


@refused(r"is damaged.*more names than it has room for")
def one_name_for_many(folder: Path) -> Path:
    """Groups whose names are one text without an end, each a little shorter."""

    def fill(file: h5py.File) -> None:
        group = file.create_group("model_weights")
        for number in range(2000):
            group.create_group(f"{number:04}" * 100)

    path = hdf5_file(folder, dense(), fill)
    content = path.read_bytes()
    heap = max(
        (content[i + 8 : i + 32] for i in all_of(content, b"HEAP")), key=lambda h: struct.unpack("<QQQ", h)[0]
    )
    size, _, start = struct.unpack("<QQQ", heap)
    path.write_bytes(content[: start + 8] + b"x" * (size - 16) + bytes(8) + content[start + size :])
    return path


def all_of(content: bytes, signature: bytes) -> list[int]:
    places = [content.find(signature)]
    while places[-1] >= 0:
        places.append(content.find(signature, places[-1] + 1))
    return places[:-1]


@refused(r"its array layers/dense_\d+/vars/0 claims the shape \[1024, 1024\], more than its \d+ bytes")
def one_array_for_many(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        for number in range(300):
            group = file.create_group(f"layers/dense_{number}/vars" if number else "layers/dense/vars")
            group["0"] = file["layers/dense/vars/0"] if number else np.ones((1024, 1024), "float32")

    layers = (layer("Dense", f"d{n}", [], units=1024, use_bias=False) for n in range(300))
    return keras_file(folder, chain(*layers, shape=[None, 1024]), weights(fill))


@refused(r"is damaged.*fractal heap")
def another_kind_of_groups(folder: Path) -> Path:
    def fill(file: h5py.File) -> None:
        for number in range(50):
            file.create_group(f"model_weights/{number}")
        named(file.create_group("model_weights/dense"))

    return hdf5_file(folder, dense(), fill, libver="latest")


@refused(
    r"has the shape \[4, 3\] there, but the model's configuration needs \[4, 5\].*belong to another model"
)
def weights_of_another_model(folder: Path) -> Path:
    return keras_file(folder, dense(5), weights())
