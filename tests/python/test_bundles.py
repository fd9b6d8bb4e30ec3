"""From modelName and weights to a bundle in the cache: fetched once, checked, made once, or refused."""

import dataclasses
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparkdl import SparkDLError, SparkDLValueError, _bundles, _engine
from sparkdl._weights import published_file
from sparkdl.models import NamedModel, WeightFile, named_model

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.once

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "bundles" / "tiny.sparkdl"
CONTENT = bytes(range(256)) * 5000


class Server:
    """Serves one folder on the loopback interface and remembers what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.cut_at = folder, list[str](), -1
        self.started = list[int]()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                file = server.folder / self.path.lstrip("/")
                if not file.is_file():
                    self.send_error(404)
                    return
                data = file.read_bytes()
                start = 0
                if self.headers.get("If-Range") == '"1"':
                    start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                else:
                    self.send_response(200)
                server.started.append(start)
                self.send_header("ETag", '"1"')
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                end = len(data) if server.cut_at < 0 else start + server.cut_at
                self.wfile.write(data[start:end])
                server.cut_at = -1

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    running = Server(tmp_path / "served")
    monkeypatch.setenv("SPARKDL_WEIGHTS_URL", running.url)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    yield running
    running.close()


@pytest.fixture
def hashed() -> NamedModel:
    """A row whose weight file is CONTENT."""
    file = WeightFile("https://example.org/w/some.h5", hashlib.md5(CONTENT).hexdigest(), "md5")
    return dataclasses.replace(named_model("ResNet50"), top=file)


@pytest.fixture(scope="module")
def legacy_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as Keras publishes it for MobileNet, with random weights."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    path = tmp_path_factory.mktemp("weights") / "mobilenet_1_0_224_tf.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, keras.applications.MobileNet(weights=None))
    return path


def left_over(folder: Path) -> list[str]:
    return sorted(
        file.name for file in folder.rglob("*") if file.is_file() and not file.name.endswith(".lock")
    )


def test_a_published_file_is_fetched_once(server: Server, hashed: NamedModel, tmp_path: Path) -> None:
    (server.folder / "some.h5").write_bytes(CONTENT)
    for _ in range(2):
        assert published_file(hashed, tmp_path / "cache").read_bytes() == CONTENT
    assert server.asked == ["/some.h5"]


def test_a_file_in_the_cache_or_in_keras_own_folder_is_not_fetched(
    server: Server, hashed: NamedModel, tmp_path: Path
) -> None:
    kept = tmp_path / "keras" / "models" / "some.h5"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT)
    assert published_file(hashed, tmp_path / "cache") == kept
    filled = tmp_path / "cache" / "weights" / "some.h5"
    filled.parent.mkdir(parents=True)
    filled.write_bytes(CONTENT)
    assert published_file(hashed, tmp_path / "cache") == filled
    assert server.asked == []


def test_a_flipped_byte_is_refused(server: Server, hashed: NamedModel, tmp_path: Path) -> None:
    flipped = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    (server.folder / "some.h5").write_bytes(flipped)
    with pytest.raises(SparkDLError, match=f"its md5 hash is not {hashed.top.hash}, which is published"):
        published_file(hashed, tmp_path / "cache")
    assert left_over(tmp_path / "cache") == []
    filled = tmp_path / "cache" / "weights" / "some.h5"
    filled.write_bytes(flipped)
    with pytest.raises(SparkDLError, match=r"damaged or not the published ones: .* Delete the file"):
        published_file(hashed, tmp_path / "cache")


def test_an_interrupted_download_goes_on_and_says_how_far_it_is(
    server: Server, hashed: NamedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (server.folder / "some.h5").write_bytes(CONTENT)
    server.cut_at = 70_000
    with caplog.at_level("INFO", "sparkdl.download"):
        assert published_file(hashed, tmp_path / "cache").read_bytes() == CONTENT
    assert server.started == [0, 70_000]
    assert left_over(tmp_path / "cache") == ["some.h5"]
    said = caplog.text
    assert "fetching 1.3 MB" in said
    assert "70000 of 1280000 bytes arrived" in said
    assert "going on at 0.1 MB of 1.3 MB" in said


def test_a_mirror_may_be_a_folder(
    hashed: NamedModel, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARKDL_WEIGHTS_URL", server.folder.as_uri())
    (server.folder / "some.h5").write_bytes(CONTENT[1:])
    with pytest.raises(SparkDLError, match="damaged or not the published ones"):
        published_file(hashed, tmp_path / "cache")
    assert left_over(tmp_path / "cache") == []
    (server.folder / "some.h5").write_bytes(CONTENT)
    assert published_file(hashed, tmp_path / "cache").read_bytes() == CONTENT
    assert server.asked == []


def test_a_failed_download_says_what_to_do(server: Server, hashed: NamedModel, tmp_path: Path) -> None:
    with pytest.raises(
        SparkDLError, match=r"Not Found\. Put the file at .*some\.h5 by hand, or .*spark\.sparkdl\.weightsUrl"
    ):
        published_file(hashed, tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_used_names_the_setting(
    server: Server, hashed: NamedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        SparkDLError, match=r"Cannot write to the cache folder .*Error: .*Set spark\.sparkdl\.cacheDir"
    ):
        published_file(hashed, tmp_path / "file" / "cache")


def test_two_processes_make_one_bundle(server: Server, legacy_weights: Path, tmp_path: Path) -> None:
    shutil.copy(legacy_weights, server.folder)
    script = "from sparkdl import _bundles; print(_bundles.resolve('MobileNet', 'imagenet'))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SPARKDL_CACHE_DIR": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-c", script]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = {process.communicate()[0].strip() for process in running}
    target = tmp_path / "cache" / "bundles" / f"MobileNet-{named_model('MobileNet').bundle_key}.sparkdl"
    assert said == {str(target)}
    assert server.asked == ["/mobilenet_1_0_224_tf.h5"]
    manifest = json.loads(_engine.describe_bundle(target)[0])
    assert manifest["source"]["weights"] == "imagenet"
    assert manifest["source"]["sha256"] == hashlib.sha256(legacy_weights.read_bytes()).hexdigest()
    assert manifest["license"] == "Apache-2.0"
    assert left_over(tmp_path / "cache") == sorted([target.name, legacy_weights.name])


def test_a_weight_file_is_kept_by_its_digest_and_a_damaged_bundle_is_made_anew(
    legacy_weights: Path, tmp_path: Path
) -> None:
    first = _bundles.resolve("MobileNet", str(legacy_weights), cache_dir=tmp_path)
    key = hashlib.sha256(legacy_weights.read_bytes()).hexdigest()[:16]
    assert first == tmp_path / "bundles" / f"MobileNet-{key}.sparkdl"
    good = first.read_bytes()
    first.write_bytes(good[:-200_000])
    assert _bundles.resolve("MobileNet", legacy_weights.as_uri(), cache_dir=tmp_path).read_bytes() == good


def test_what_the_other_process_refuses_is_raised_here(legacy_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SparkDLValueError, match="do not fit MobileNetV2: the file has weights for"
    ) as refused:
        _bundles.resolve("MobileNetV2", str(legacy_weights), cache_dir=tmp_path)
    assert refused.value.kind == "InvalidModel"
    assert left_over(tmp_path) == []


def test_a_live_model_is_kept_by_configuration_and_weights(tmp_path: Path) -> None:
    model = keras.applications.MobileNet(alpha=0.25, input_shape=(32, 32, 3), classes=3, weights=None)
    first = _bundles.resolve("MobileNet", model, cache_dir=tmp_path)
    assert _bundles.resolve("MobileNet", model, cache_dir=tmp_path) == first
    model.layers[1].set_weights([weight + 1 for weight in model.layers[1].get_weights()])
    assert _bundles.resolve("MobileNet", model, cache_dir=tmp_path) != first


def test_a_bundle_is_taken_as_it_is(tmp_path: Path) -> None:
    assert _bundles.resolve(str(TINY), "imagenet", cache_dir=tmp_path) == TINY
    with pytest.raises(SparkDLValueError, match='so weights must be "imagenet" but was'):
        _bundles.resolve(str(TINY), "other.h5", cache_dir=tmp_path)
    with pytest.raises(SparkDLError, match="no such file on the driver"):
        _bundles.resolve(str(tmp_path / "missing.sparkdl"), "imagenet", cache_dir=tmp_path)
    (tmp_path / "cut.sparkdl").write_bytes(TINY.read_bytes()[:2000])
    with pytest.raises(SparkDLValueError):
        _bundles.resolve(str(tmp_path / "cut.sparkdl"), "imagenet", cache_dir=tmp_path)
    with pytest.raises(SparkDLValueError, match="Unknown model LeNet"):
        _bundles.resolve("LeNet", "imagenet", cache_dir=tmp_path)


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SparkDLValueError, match=r"weights must be .* but was int"):
        _bundles.resolve("MobileNet", 3, cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["mobilenet.keras", "mobilenet.h5"])
def test_a_whole_keras_file_is_read_without_keras(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("Keras was asked")

    monkeypatch.setattr(_bundles, "_export_elsewhere", refuse)
    file = TINY.parents[1] / "keras" / name
    bundle = _bundles.resolve("MobileNet", str(file), cache_dir=tmp_path)
    manifest = json.loads(_engine.describe_bundle(bundle)[0])
    assert manifest["source"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert manifest["outputs"]["featuresAvg"]["shape"] == [40]
