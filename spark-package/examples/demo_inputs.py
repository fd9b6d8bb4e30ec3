"""What the demo works on: which labelled pictures and which weights, the best that can be had here."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tarfile
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from drawn_pictures import write_pictures

FLOWERS_URL = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"
# As TensorFlow Datasets publishes it.
FLOWERS_SHA256 = "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"
WEIGHTS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
PATIENCE = 4  # seconds until a host counts as out of reach
DRAWN_KINDS = ("circle", "cross", "dots", "ring", "star", "waves")
DRAWN_SEED = 7
SMALL_NETWORK = Path(__file__).with_name("small_network.sparkdl")


@dataclass(frozen=True)
class Pictures:
    """A folder with one folder of pictures per class."""

    folder: Path
    what: str


@dataclass(frozen=True)
class Network:
    """What `DeepImageFeaturizer` and `DeepImagePredictor` are given."""

    modelName: str
    weights: str
    what: str


def find_pictures(folder: str | None, cache: Path) -> Pictures:
    """The given folder, else TensorFlow's flower photographs, else pictures of our own drawing."""
    if folder:
        if not any(path.is_dir() for path in Path(folder).glob("*")):
            raise SystemExit(
                f"{folder} has no sub-folders: give a folder with one folder of pictures per class."
            )
        return Pictures(Path(folder), f"the photographs in {folder}")
    flowers = cache / "flower_photos"
    if flowers.exists() or (reachable(FLOWERS_URL) and fetch_flowers(flowers)):
        return Pictures(flowers, "TensorFlow's flower photographs")
    drawn = cache / f"drawn_pictures-{DRAWN_SEED}"
    write_pictures(drawn, DRAWN_KINDS, per_kind=80, seed=DRAWN_SEED)
    return Pictures(drawn, "pictures drawn by a script of ours (the flower photographs cannot be reached)")


def find_network(weights: str | None, model_name: str, bundles: Path) -> Network:
    """The given weights, else the published ones of ImageNet, else a small network of our own."""
    if weights and weights.endswith(".sparkdl"):
        return Network(weights, "imagenet", f"the network in {weights}")
    if weights:
        return Network(model_name, weights, f"{model_name} with the weights in {weights}")
    if list(bundles.glob(f"{model_name}-imagenet-*.sparkdl")) or reachable(WEIGHTS_URL):
        return Network(model_name, "imagenet", f"{model_name} with the published ImageNet weights")
    what = "a small network of our own, trained on drawn pictures (the ImageNet weights cannot be reached)"
    return Network(str(SMALL_NETWORK), "imagenet", what)


def reachable(url: str) -> bool:
    """Whether the host of a URL answers within PATIENCE seconds, name look-up included."""
    host, found = urlsplit(url).hostname, []

    def connect() -> None:
        try:
            socket.create_connection((host, 443), timeout=PATIENCE).close()
            request = urllib.request.Request(url, method="HEAD")
            found.append(urllib.request.urlopen(request, timeout=PATIENCE).status < 500)
        except urllib.error.HTTPError as answer:
            found.append(answer.code in (403, 404, 405))  # a folder's URL need not be listable
        except OSError:
            found.append(False)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found == [True]


def fetch_flowers(folder: Path) -> bool:
    """Downloads and unpacks the photographs; False, with a line that says why, where that fails."""
    archive = folder.with_suffix(".tgz")
    unpacked = folder.with_name(f"{folder.name}-{os.getpid()}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {FLOWERS_URL} (229 MB) ...")
    try:
        digest = hashlib.sha256()
        with urllib.request.urlopen(FLOWERS_URL, timeout=PATIENCE) as source, archive.open("wb") as target:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != FLOWERS_SHA256:
            print(
                f"The flower photographs have SHA-256 {digest.hexdigest()}, not {FLOWERS_SHA256}: not used."
            )
            return False
        with tarfile.open(archive) as members:
            members.extractall(unpacked, filter="data")
        (unpacked / "flower_photos").rename(folder)
    except (OSError, tarfile.TarError) as error:
        print(f"The flower photographs could not be fetched: {error}")
        return False
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
    return True
