"""TensorFlow graphs from wherever users have them, as bundles that stages run."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkdl import _bundles, _cache, _engine, _shipping
from sparkdl._tensor import Tensor, nearest, tensors
from sparkdl.exceptions import SparkDLError, SparkDLValueError

SERVE = "serve"
"""The tag of the graph that TensorFlow and Keras save for use."""


@dataclass(frozen=True)
class TFInputGraph:
    """A TensorFlow graph that was read: what runs of it for its outputs, its variables as constants.

    It lies as a bundle in the driver's cache folder; stages that use it carry it to the workers and save it.
    Tensors are named `node:0`; `:0` may be left out. The first dimension of each must be open: the rows.
    (`mapRows` runs a graph of one row, `reduceBlocks` and `aggregate` one whose outputs have no rows.)

    Operations that reach beyond the graph (files, processes, Python, network, queues) are refused unless
    `allowUnsafeOps` is given here, and to the stage as well.
    """

    path: str
    """Of its bundle."""
    name: str
    """What messages call it."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def fromGraph(
        cls,
        graph: Any,
        sess: Any,
        feed_names: Sequence[Any],
        fetch_names: Sequence[Any],
        *,
        allowUnsafeOps: bool = False,
    ) -> TFInputGraph:
        """A `tf.Graph`, with the values that its variables have in this session (None: it has none).

        Tensors are given by name, or themselves.
        """
        from sparkdl.graph import utils

        fetches = [utils.tensor_name(fetch) for fetch in fetch_names]
        frozen = utils.strip_and_freeze_until(fetches, graph, sess)
        feeds = [utils.tensor_name(feed) for feed in feed_names]
        return cls.fromGraphDef(frozen, feeds, fetches, allowUnsafeOps=allowUnsafeOps)

    @classmethod
    def fromGraphDef(
        cls,
        graph_def: Any,
        feed_names: Sequence[str],
        fetch_names: Sequence[str],
        *,
        allowUnsafeOps: bool = False,
    ) -> TFInputGraph:
        """A `GraphDef`: the message, its bytes, or the path or URI of a file of them."""
        feeds, fetches = _tensor_names(feed_names, "feed_names"), _tensor_names(fetch_names, "fetch_names")
        if isinstance(graph_def, (str, os.PathLike)):
            return cls._converted(os.fspath(graph_def), allowUnsafeOps, inputs=feeds, outputs=fetches)
        data = graph_def if isinstance(graph_def, bytes) else graph_def.SerializeToString(deterministic=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "graph.pb"
            file.write_bytes(data)
            shown = "that was given"
            return cls._converted(str(file), allowUnsafeOps, shown, inputs=feeds, outputs=fetches)

    @classmethod
    def fromCheckpoint(
        cls,
        checkpoint_dir: str,
        feed_names: Sequence[str],
        fetch_names: Sequence[str],
        *,
        allowUnsafeOps: bool = False,
    ) -> TFInputGraph:
        """The latest checkpoint of TensorFlow 1 in a folder, or the one whose `.meta` file is given."""
        feeds, fetches = _tensor_names(feed_names, "feed_names"), _tensor_names(fetch_names, "fetch_names")
        return cls._converted(checkpoint_dir, allowUnsafeOps, inputs=feeds, outputs=fetches)

    @classmethod
    def fromCheckpointWithSignature(
        cls, checkpoint_dir: str, signature_def_key: str, *, allowUnsafeOps: bool = False
    ) -> TFInputGraph:
        """The same, with inputs and outputs from a signature in its `.meta` file."""
        return cls._converted(checkpoint_dir, allowUnsafeOps, signature=signature_def_key)

    @classmethod
    def fromSavedModel(
        cls,
        saved_model_dir: str,
        tag_set: str | Sequence[str],
        feed_names: Sequence[str],
        fetch_names: Sequence[str],
        *,
        allowUnsafeOps: bool = False,
    ) -> TFInputGraph:
        """A SavedModel of TensorFlow 1 or 2: the graph with these tags (`"serve"`, or `"a,b"`)."""
        feeds, fetches = _tensor_names(feed_names, "feed_names"), _tensor_names(fetch_names, "fetch_names")
        tags = _tags(tag_set)
        return cls._converted(saved_model_dir, allowUnsafeOps, tags=tags, inputs=feeds, outputs=fetches)

    @classmethod
    def fromSavedModelWithSignature(
        cls,
        saved_model_dir: str,
        tag_set: str | Sequence[str] = SERVE,
        signature_def_key: str = "serving_default",
        *,
        allowUnsafeOps: bool = False,
    ) -> TFInputGraph:
        """The same, with inputs and outputs from a signature."""
        signature = _not_empty(signature_def_key)
        return cls._converted(saved_model_dir, allowUnsafeOps, tags=_tags(tag_set), signature=signature)

    @classmethod
    def fromFunction(cls, function: Any, *signature: Any, allowUnsafeOps: bool = False) -> TFInputGraph:
        """A `tf.function` with its own input signature or the `tf.TensorSpec`s given, or a concrete one.

        Inputs are called as its arguments, outputs as the keys of the dict it returns, or `output_0`, ….
        """
        import tensorflow as tf

        concrete = function
        if hasattr(function, "get_concrete_function"):
            concrete = function.get_concrete_function(*signature)
        elif not hasattr(function, "structured_input_signature"):
            raise SparkDLValueError(
                f"fromFunction takes a tf.function or a concrete function of it but was given a "
                f"{type(function).__name__}: decorate it with @tf.function."
            )
        module = tf.Module()
        # What a function captures is saved only where a trackable object holds it.
        module.captured = list(concrete.graph.variables)
        module.function = function
        with tempfile.TemporaryDirectory() as folder:
            try:
                tf.saved_model.save(module, folder, signatures=concrete)
            except (AssertionError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise SparkDLValueError(
                    f"TensorFlow cannot save the function: {reason}", "InvalidModel"
                ) from error
            return cls.fromSavedModelWithSignature(folder, allowUnsafeOps=allowUnsafeOps)

    @classmethod
    def fromKeras(cls, model: Any) -> TFInputGraph:
        """A Keras model: the path or URI of a whole file (`.keras`, `.h5`), or a live `keras.Model`."""
        return cls.fromBundle(str(_bundles.resolve_file(model, _active())))

    @classmethod
    def fromBundle(cls, path: str) -> TFInputGraph:
        """A bundle on tensors that was made before: the path or URI of a `*.sparkdl` file."""
        spark = _active()
        file = _cache.local_copy(path, spark, _cache.cache_folder(spark))
        manifest: dict[str, Any] = json.loads(_engine.describe_bundle(file)[0])
        if isinstance(manifest["outputs"], dict):
            raise SparkDLValueError(
                f"{path} is a bundle for pictures: use it as modelName of DeepImageFeaturizer or "
                "DeepImagePredictor."
            )
        inputs, outputs = tensors(manifest)
        return cls(str(file), str(manifest["name"]), tuple(inputs), tuple(outputs))

    def translateInputMapping(self, input_mapping: dict[str, str]) -> dict[str, str]:
        """Column to key of the signature, as column to name of the tensor."""
        return {column: self.input(key).tensor for column, key in input_mapping.items()}

    def translateOutputMapping(self, output_mapping: dict[str, str]) -> dict[str, str]:
        """Key of the signature to column, as name of the tensor to column."""
        return {self.output(key).tensor: column for key, column in output_mapping.items()}

    def input(self, name: str) -> Tensor:
        """The input of this key or tensor name."""
        return chosen(name, self.inputs, "input", self.name)

    def output(self, name: str) -> Tensor:
        """The output of this key or tensor name."""
        return chosen(name, self.outputs, "output", self.name)

    def schemaString(self) -> str:
        """Inputs and outputs with their types and shapes, a line each; `any` is a side of any size."""
        lines = []
        for title, ports in (("inputs", self.inputs), ("outputs", self.outputs)):
            lines.append(title)
            lines += [
                f" |-- {p.name}: {p.dtype} {p.sides()} (tensor {p.tensor}{'' if p.rows else ', no rows'})"
                for p in ports
            ]
        return "\n".join(lines) + "\n"

    def printSchema(self) -> None:
        """Prints `schemaString`."""
        print(self.schemaString(), end="")

    @classmethod
    def _converted(cls, place: str, allow_unsafe_ops: bool, shown: str = "", **choices: Any) -> TFInputGraph:
        """What is read of a file or folder, kept in the cache folder under its own hash."""
        spark = _active()
        stages = _cache.made(_shipping.kept_file(spark, "").parent)
        with _local(place, spark) as local, tempfile.TemporaryDirectory(dir=stages) as folder:
            made = Path(folder) / "made.sparkdl"
            try:
                choices |= {"name": _bundles.stem(place), "allow_unsafe_ops": allow_unsafe_ops}
                _engine.convert_graph(local, made, **choices)
            except SparkDLError as error:
                # A copy is called as the user knows it.
                raise type(error)(str(error).replace(str(local), shown or place), error.kind) from error
            kept = _shipping.kept_file(spark, _cache.digest(made))
            os.replace(made, kept)
        return cls.fromBundle(str(kept))


def chosen(name: str, known: Sequence[Tensor], what: str, model: str) -> Tensor:
    """The tensor that is called so; refuses others, with the names nearest to it."""
    found = [tensor for tensor in known if tensor.is_called(name)]
    if not found:
        near = nearest(name, [tensor.name for tensor in known])
        raise SparkDLValueError(f"The graph {model} has no {what} {name}; the nearest: {near}.")
    return found[0]


def _tags(given: str | Sequence[str]) -> list[str]:
    tags = given.split(",") if isinstance(given, str) else list(given)
    return [tag.strip() for tag in tags if tag.strip()]


def _not_empty(signature: str) -> str:
    if not signature:
        raise SparkDLValueError('signature_def_key must name a signature, as "serving_default".')
    return signature


def _tensor_names(given: Sequence[str], what: str) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise SparkDLValueError(f"{what} must be names of tensors, and not empty, but was {given!r}.")
    return [name if ":" in name else f"{name}:0" for name in names]


def _active() -> Any:
    """The session of this thread; none is started for the question."""
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession()


@contextlib.contextmanager
def _local(place: str, spark: Any) -> Iterator[Path]:
    """A file or folder on this machine: itself, or a copy of what is remote that is gone afterwards."""
    if not _cache.is_remote(place):
        yield _cache.local_path(place)
        return
    with tempfile.TemporaryDirectory(dir=_cache.made(_cache.cache_folder(spark))) as folder:
        # A checkpoint is several files, of which the user names one.
        wanted = f"{place.removesuffix('meta')}*" if place.endswith(".meta") else place
        _cache.fetch_all(wanted, spark, Path(folder))
        yield Path(folder) / place.rsplit("/", 1)[-1] if place.endswith(".meta") else Path(folder)
