"""Models of any inputs and outputs as bundles on tensors: the manifest, the same bytes each time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import keras_models
import sparkdl
from sparkdl import SparkDLValueError, _bundles, _engine
from sparkdl.__main__ import main

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once


def manifest(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_engine.describe_bundle(bundle)[0])
    return found


def test_a_model_of_several_inputs_and_outputs_is_described_as_the_native_reader_does(tmp_path: Path) -> None:
    file = keras_models.saved(keras_models.several(), tmp_path)
    by_keras = manifest(sparkdl.export(file, tmp_path / "m.sparkdl"))
    natively = manifest(_bundles.resolve_file(file, cache_dir=tmp_path))
    assert by_keras["version"] == natively["version"] == 2
    assert by_keras["name"] == natively["name"]
    assert by_keras["source"]["sha256"] == natively["source"]["sha256"]
    for key in ("inputs", "outputs"):
        ours, theirs = (
            [(one["name"], one["dtype"], one["shape"]) for one in found[key]]
            for found in (by_keras, natively)
        )
        assert ours == theirs
    assert [(one["dtype"], one["shape"]) for one in by_keras["outputs"]] == [
        ("float32", [4]),
        ("float32", [5, 3]),
        ("float32", [4, 3, 2]),
        ("bool", [3]),
        ("float32", []),
    ]


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    file = keras_models.saved(keras_models.several(), tmp_path)
    digests = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "sparkdl", "export", "--json", "--model", file, "--output"]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [*command, str(tmp_path / f"{seed}.sparkdl")], env=environment, check=True, capture_output=True
        )
        digests.add(json.loads(done.stdout)["digest"])
    assert len(digests) == 1


def test_a_picture_model_is_on_tensors_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SparkDLValueError, match=r"say tensors=True \(--tensors\) instead"):
        sparkdl.export(keras_models.pictures(), tmp_path / "m.sparkdl")
    file = keras_models.saved(keras_models.pictures(None, None, out="3"), tmp_path)
    open_size = manifest(sparkdl.export(file, tmp_path / "m.sparkdl", tensors=True))
    assert open_size["inputs"][0]["shape"] == open_size["outputs"][0]["shape"] == [None, None, 3]
    output = tmp_path / "sized.sparkdl"
    asked = ["export", "--tensors", "--model", file, "--output", str(output), "--input-size"]
    assert main([*asked, "20x30"]) == 0
    assert manifest(output)["inputs"][0]["shape"] == manifest(output)["outputs"][0]["shape"] == [20, 30, 3]
    assert main([*asked, "20"]) == 1
    assert "--input-size takes HEIGHTxWIDTH, as 224x224, but was '20'." in capsys.readouterr().err


def test_without_an_output_it_lies_where_stages_find_it(tmp_path: Path) -> None:
    file = keras_models.saved(keras_models.several(), tmp_path, "my model.keras")
    made = sparkdl.export(file, cache_dir=tmp_path / "cache")
    assert made.name.startswith("my_model-")
    assert _bundles.resolve_file(file, cache_dir=tmp_path / "cache") == made
    pictures = keras_models.saved(keras_models.pictures(None, None), tmp_path, "eye.keras")
    made = sparkdl.export(pictures, tensors=True, input_size=(8, 9), cache_dir=tmp_path / "cache")
    asked = _bundles.Asked(input_size="8x9")
    assert _bundles.resolve_file(pictures, cache_dir=tmp_path / "cache", asked=asked) == made


def test_a_name_of_the_table_is_for_pictures(tmp_path: Path) -> None:
    with pytest.raises(SparkDLValueError, match="MobileNet is a network for pictures: give its file"):
        sparkdl.export("MobileNet", tmp_path / "m.sparkdl", tensors=True)


def test_a_type_that_no_bundle_has_is_refused(tmp_path: Path) -> None:
    given = keras.Input((2,), dtype="string", name="text")
    model = keras.Model(given, keras.layers.Identity()(given))
    with pytest.raises(
        SparkDLValueError, match="The input text is of type string; the bundle of a Keras model has bool"
    ):
        sparkdl.export(model, tmp_path / "m.sparkdl")


def test_the_native_reader_refuses_inputs_of_texts(tmp_path: Path) -> None:
    given = keras.Input((2,), dtype="string", name="text")
    keras.Model(given, keras.layers.Flatten()(given)).save(tmp_path / "m.keras")
    with pytest.raises(SparkDLValueError, match='its input is of type "string", which is not built'):
        _engine.convert_keras(tmp_path / "m.keras", tmp_path / "m.sparkdl", "")
