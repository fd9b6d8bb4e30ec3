"""What becomes of Keras models: told apart, cut, frozen to the same bytes each time, or refused by name."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparkdl
from sparkdl import SparkDLError, SparkDLValueError, _engine, _keras
from sparkdl.__main__ import main

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once
layers = keras.layers


@pytest.fixture(scope="module")
def mobilenet() -> Any:
    """Small: alpha 0.25, 64 x 64, five classes."""
    keras.utils.set_random_seed(1)
    return keras.applications.MobileNet(alpha=0.25, input_shape=(64, 64, 3), classes=5, weights=None)


@pytest.fixture(scope="module")
def mobilenet_file(mobilenet: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("keras") / "flowers.keras"
    mobilenet.save(path)
    return path


def own_network(head: str | None = "softmax") -> Any:
    """Of no known family: convolution with bias, batch norm, dropout."""
    image = keras.Input((24, 20, 3))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(image)
    x = layers.Conv2D(6, 3, strides=2, bias_initializer="random_normal")(x)
    x = layers.BatchNormalization(gamma_initializer="random_normal", beta_initializer="random_normal")(x)
    x = layers.ReLU()(x)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(3, activation=head)(x), name="own")


def manifest(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_engine.describe_bundle(bundle)[0])
    return found


def graph(bundle: Path) -> Any:
    from tensorflow.core.framework import graph_pb2

    with zipfile.ZipFile(bundle) as file:
        return graph_pb2.GraphDef.FromString(file.read("graph.pb"))


def run_graph(bundle: Path, image: Any) -> dict[str, Any]:
    import tensorflow as tf

    with tf.Graph().as_default() as place:
        tf.import_graph_def(graph(bundle), name="")
        with tf.compat.v1.Session(graph=place) as session:
            fetches = {key: value["tensor"] for key, value in manifest(bundle)["outputs"].items()}
            found: dict[str, Any] = session.run(fetches, {"image:0": image})
            return found


def test_a_whole_file_brings_its_own_size_and_classes(mobilenet_file: Path, tmp_path: Path) -> None:
    bundle = sparkdl.export(str(mobilenet_file), tmp_path / "m.sparkdl")
    found = manifest(bundle)
    assert found["name"] == "MobileNet_0.25"
    assert found["input"] == {
        "tensor": "image:0",
        "height": 64,
        "width": 64,
        "channels": 3,
        "channelOrder": "RGB",
        "normalization": "tf",
    }
    assert {key: output["shape"] for key, output in found["outputs"].items()} == {
        "predictions": [5],
        "features": [2, 2, 256],
        "featuresAvg": [256],
        "featuresMax": [256],
    }
    assert found["labels"] is None


def test_a_model_of_1000_classes_of_a_known_family_has_imagenets_labels(tmp_path: Path) -> None:
    model = keras.applications.MobileNet(alpha=0.25, input_shape=(32, 32, 3), weights=None)
    labels = manifest(sparkdl.export("MobileNet", tmp_path / "m.sparkdl", weights=model))["labels"]
    assert labels[832] == ["n04346328", "stupa"]


def test_two_processes_write_the_same_bytes(mobilenet: Any, mobilenet_file: Path, tmp_path: Path) -> None:
    digests = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.sparkdl"
        command = [
            sys.executable,
            "-m",
            "sparkdl",
            "export",
            "--json",
            "--model",
            str(mobilenet_file),
            "--output",
            path,
        ]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
        said = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
        assert said["path"] == str(path)
        digests.add(said["digest"])
    own_network()  # Counts up Keras' names.
    digests.add(_engine.describe_bundle(sparkdl.export(str(mobilenet_file), tmp_path / "3.sparkdl"))[1])
    assert len(digests) == 1


def test_nothing_that_only_training_needs_is_left(mobilenet_file: Path, tmp_path: Path) -> None:
    operations = {node.op for node in graph(sparkdl.export(str(mobilenet_file), tmp_path / "m.sparkdl")).node}
    assert operations == {
        "Placeholder", "Const", "Identity", "Conv2D", "DepthwiseConv2dNative", "BiasAdd", "Relu6", "Mean",
        "Max", "Reshape", "Softmax",
    }  # fmt: skip


@pytest.mark.parametrize("head", ["softmax", None])
def test_a_network_of_no_family_runs_as_in_keras(head: str | None, tmp_path: Path) -> None:
    model = own_network(head)
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    norm.moving_mean.assign(np.linspace(-1, 1, 6))
    norm.moving_variance.assign(np.linspace(0.3, 2, 6))
    bundle = sparkdl.export(model, tmp_path / "own.sparkdl", normalization="torch", labels=["a", "b", "c"])
    found = manifest(bundle)
    assert found["input"]["normalization"] == "torch"
    assert found["labels"] == [["a", "a"], ["b", "b"], ["c", "c"]]
    image = np.random.default_rng(3).normal(0, 1, (4, 24, 20, 3)).astype(np.float32)
    ours = run_graph(bundle, image)
    features = keras.Model(model.inputs, norm.output)(image)
    features = np.maximum(features, 0)
    np.testing.assert_allclose(ours["features"], features, atol=1e-5)
    np.testing.assert_allclose(ours["featuresMax"], features.max((1, 2)), atol=1e-5)
    np.testing.assert_allclose(ours["predictions"], model(image), atol=1e-5)
    assert "Rsqrt" not in {node.op for node in graph(bundle).node}
    assert "Pad" not in {node.op for node in graph(bundle).node}


def test_a_network_of_no_family_needs_its_normalization(tmp_path: Path) -> None:
    with pytest.raises(
        SparkDLValueError, match=r"own is of no family we know, .* one of tf, caffe, torch, none"
    ):
        sparkdl.export(own_network(), tmp_path / "own.sparkdl")


def test_a_family_inside_another_model_is_known_unless_something_comes_before_it(
    mobilenet: Any, tmp_path: Path
) -> None:
    base = keras.applications.MobileNet(alpha=0.25, input_shape=(64, 64, 3), include_top=False, weights=None)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(2)]
    known = keras.Sequential([keras.Input((64, 64, 3)), base, *head])
    found = manifest(sparkdl.export(known, tmp_path / "known.sparkdl"))
    assert (found["name"], found["input"]["normalization"]) == ("MobileNet_0.25", "tf")
    assert found["outputs"]["features"]["shape"] == [2, 2, 256]
    rescaled = keras.Sequential([keras.Input((64, 64, 3)), layers.Rescaling(1 / 127.5, -1), base, *head])
    with pytest.raises(SparkDLValueError, match="of no family we know"):
        sparkdl.export(rescaled, tmp_path / "rescaled.sparkdl")


@pytest.mark.parametrize(
    ("name", "features"), [("MobileNetV3Small", (2, 2, 576)), ("ConvNeXtTiny", (2, 2, 768))]
)
def test_a_family_is_known_whatever_number_its_layers_have(name: str, features: tuple[int, ...]) -> None:
    """Keras counts layers without a name of their own, in each process from the first model on."""
    for _ in range(3):
        layers.Activation("relu")
        layers.Add()
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))
    network = _keras.cut(model, None, "the model")
    assert network.row is not None
    assert network.row.name == name
    assert network.features is not None
    assert network.features.shape == (None, *features)


def test_a_model_of_another_family_is_refused_with_the_difference(mobilenet: Any, tmp_path: Path) -> None:
    with pytest.raises(SparkDLValueError, match="is not a ResNet50: it has no layer conv5_block3_out"):
        sparkdl.export("ResNet50", tmp_path / "m.sparkdl", weights=mobilenet)


def test_weights_that_do_not_fit_are_refused_with_the_difference(shared_data: Path, tmp_path: Path) -> None:
    weights = shared_data / "models" / "mobilenet_2_5_224_tf.h5"
    with pytest.raises(
        SparkDLValueError, match=r"do not fit MobileNet: layer conv1 has .*\(3, 3, 3, 8\).* in the file"
    ):
        sparkdl.export("MobileNet", tmp_path / "m.sparkdl", weights=weights)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_code_in_a_file_is_refused_by_name(suffix: str, tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Lambda(lambda x: x * 2, name="twice")(image))
    model.save(tmp_path / f"lambda.{suffix}")
    with pytest.raises(SparkDLValueError, match="has the layer 'twice' of class Lambda") as refused:
        sparkdl.export(str(tmp_path / f"lambda.{suffix}"), tmp_path / "m.sparkdl", normalization="tf")
    assert refused.value.kind == "InvalidModel"


def test_a_custom_layer_in_a_file_is_refused_by_name(tmp_path: Path) -> None:
    class Swirl(layers.Layer):  # type: ignore[misc, unused-ignore]
        def call(self, x: Any) -> Any:
            return x

    image = keras.Input((8, 8, 3))
    keras.Model(image, Swirl(name="mine")(image)).save(tmp_path / "custom.keras")
    with pytest.raises(SparkDLValueError, match="has the layer 'mine' of class Swirl"):
        sparkdl.export(str(tmp_path / "custom.keras"), tmp_path / "m.sparkdl", normalization="tf")


def test_what_is_no_keras_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not weights")
    with pytest.raises(SparkDLValueError, match="neither a Keras file"):
        sparkdl.export("MobileNet", tmp_path / "m.sparkdl", weights=tmp_path / "text.h5")
    with pytest.raises(SparkDLError, match="no such file on the driver"):
        sparkdl.export("MobileNet", tmp_path / "m.sparkdl", weights=tmp_path / "missing.h5")
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(SparkDLValueError, match="damaged or not a Keras model"):
        sparkdl.export(str(tmp_path / "cut.keras"), tmp_path / "m.sparkdl")
    assert not (tmp_path / "m.sparkdl").exists()


def test_labels_must_be_one_per_class(mobilenet: Any, tmp_path: Path) -> None:
    with pytest.raises(SparkDLValueError, match=r"has 5 classes, so it takes 5 labels, .* 2 were given"):
        sparkdl.export("MobileNet", tmp_path / "m.sparkdl", weights=mobilenet, labels=["a", "b"])
    assert not (tmp_path / "m.sparkdl").exists()


def test_the_command_line_says_path_and_digest_and_fails_with_a_reason(
    mobilenet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "m.sparkdl"
    asked = ["export", "--model", "MobileNet", "--weights", str(mobilenet_file), "--output", str(output)]
    (tmp_path / "labels.json").write_text('["a", "b", "c", "d", "e"]')
    assert main([*asked, "--labels", str(tmp_path / "labels.json")]) == 0
    digest = _engine.describe_bundle(output)[1]
    assert capsys.readouterr().out == f"{output}\nSHA-256 {digest}\n"
    assert main(["describe", str(output)]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == "5 labels, from a to e"
    assert main(["export", "--model", "LeNet"]) == 1
    assert "sparkdl: Unknown model LeNet. Known models:" in capsys.readouterr().err


@pytest.mark.parametrize("order", ["keras first", "core first"])
def test_keras_and_the_core_share_one_tensorflow(order: str, mobilenet_file: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "m.sparkdl"
    export = f"import sparkdl; sparkdl.export({str(mobilenet_file)!r}, {str(bundle)!r})\n"
    core = (
        "import sys; from sparkdl import _native\n"
        "options = [('tensorflowPath', ''), ('tensorflowClasspath', ''), ('python', sys.executable)]\n"
        "print(_native.load_tensorflow(options))\n"
    )
    script = export + core if order == "keras first" else core + export
    script += "print({l.split()[-1] for l in open('/proc/self/maps') if 'libtensorflow_cc' in l})\n"
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(eval(done.stdout.strip().splitlines()[-1])) == 1, done.stdout
    assert bundle.exists()
