"""`python -m sparkdl export`, `python -m sparkdl describe` and `python -m sparkdl models`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparkdl import _engine
from sparkdl.exceptions import SparkDLError, SparkDLValueError
from sparkdl.models import named_models


def main(arguments: list[str] | None = None) -> int:
    """Runs a command. Exit codes: 0 done, 1 refused or failed with a reason, 2 wrong arguments."""
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except SparkDLError as error:
        if given.json:
            print(json.dumps({"error": str(error), "kind": error.kind}))
        else:
            print(f"sparkdl: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparkdl", description="Bundles for the stages of sparkdl."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    export = commands.add_parser("export", help="make a bundle of a Keras model")
    export.add_argument(
        "--model", required=True, help="a name of the table, as MobileNet, or a whole .keras or .h5 file"
    )
    export.add_argument(
        "--weights", default="imagenet", help='"imagenet" (the default) or a .keras or .h5 file'
    )
    export.add_argument(
        "--output", help="the bundle to write; without it, into the cache folder, where stages find it"
    )
    export.add_argument(
        "--cache-dir", help="the cache folder; default: SPARKDL_CACHE_DIR, else the user's own"
    )
    export.add_argument("--labels", help="a JSON file: an array of strings or of [class, description] pairs")
    export.add_argument("--name", help="the name in the manifest")
    export.add_argument("--normalization", help="tf, caffe, torch or none, for a network of no known family")
    export.add_argument("--channel-order", help="RGB or BGR, for a network of no known family")
    export.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of Keras' builder, as alpha=0.25",
    )
    export.add_argument(
        "--feature-layer", help="the layer whose output are the features, by its name in Keras"
    )
    export.add_argument(
        "--tensors",
        action="store_true",
        help="as a model on tensors, for KerasTransformer and KerasImageFileTransformer",
    )
    export.add_argument(
        "--input-size", metavar="HEIGHTxWIDTH", help="of pictures, where a model on tensors leaves it open"
    )
    export.add_argument(
        "--json", action="store_true", help="say the result, or the error, as one line of JSON"
    )
    export.set_defaults(run=_export)

    describe = commands.add_parser("describe", help="check a bundle and show its manifest")
    describe.add_argument("bundle", help="a .sparkdl file")
    describe.add_argument("--json", action="store_true", help="say an error as one line of JSON")
    describe.set_defaults(run=_describe)

    models = commands.add_parser("models", help="list the built-in models")
    models.set_defaults(run=_models, json=False)
    return parser


def _export(given: argparse.Namespace) -> None:
    from sparkdl._export import export

    with _without_banners(), contextlib.suppress(ImportError):
        importlib.import_module("tensorflow")
    path = export(
        given.model,
        given.output,
        weights=given.weights,
        labels=_labels(given.labels),
        name=given.name,
        normalization=given.normalization,
        channel_order=given.channel_order,
        network=dict(_pair(text) for text in given.network),
        feature_layer=given.feature_layer,
        tensors=given.tensors,
        input_size=_size(given.input_size),
        cache_dir=given.cache_dir,
    )
    digest = _engine.describe_bundle(path)[1]
    print(json.dumps({"path": str(path), "digest": digest}) if given.json else f"{path}\nSHA-256 {digest}")


def _describe(given: argparse.Namespace) -> None:
    manifest, digest = _engine.describe_bundle(given.bundle)
    fields: dict[str, Any] = json.loads(manifest)
    labels = fields.get("labels")
    if labels:
        fields["labels"] = f"{len(labels)} labels, from {labels[0][1]} to {labels[-1][1]}"
    print(json.dumps({**fields, "sha256": digest}, indent=1, ensure_ascii=False))


def _models(given: argparse.Namespace) -> None:
    print(f"{'name':20}{'input':>10}{'features':>15}{'parameters':>13}  license")
    for row in named_models():
        size, features = f"{row.height}x{row.width}", "x".join(map(str, row.features))
        parameters = f"{row.parameters / 1e6:.1f} M"
        print(f"{row.name:20}{size:>10}{features:>15}{parameters:>13}  {row.license}")


@contextlib.contextmanager
def _without_banners() -> Iterator[None]:
    """Keeps off the terminal what TensorFlow prints on being loaded, which no setting of it silences."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as elsewhere:
        os.dup2(elsewhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _labels(path: str | None) -> Any:
    if path is None:
        return None
    try:
        labels = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SparkDLError(f"Cannot read the labels {path}: {error.strerror}.", "Io") from error
    except ValueError as error:
        raise SparkDLValueError(f"The labels {path} are not JSON: {error}") from error
    if not isinstance(labels, list):
        raise SparkDLValueError(
            f"The labels {path} must be a JSON array but are of type {type(labels).__name__}."
        )
    return labels


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise SparkDLValueError(f"--input-size takes HEIGHTxWIDTH, as 224x224, but was {text!r}.")
    return int(height), int(width)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise SparkDLValueError(f"--network takes KEY=VALUE, as alpha=0.25, but was {text!r}.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


if __name__ == "__main__":
    sys.exit(main())
