"""Graphs in the style of TensorFlow 1, put together of pieces. TensorFlow is imported where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sparkdl.exceptions import SparkDLValueError
from sparkdl.graph import utils


@dataclass(frozen=True)
class GraphFunction:
    """A graph without variables, and the names of the operations that are its inputs and its outputs."""

    graph_def: Any
    input_names: list[str]
    output_names: list[str]

    @classmethod
    def fromKeras(cls, model_or_file_path: Any) -> GraphFunction:
        """A Keras model: live, or the path of a whole file (`.keras`, `.h5`)."""
        import zipfile

        import tensorflow as tf

        from sparkdl.graph.input import TFInputGraph

        read = TFInputGraph.fromKeras(model_or_file_path)
        definition = tf.compat.v1.GraphDef()
        with zipfile.ZipFile(Path(read.path)) as bundle:
            definition.ParseFromString(bundle.read("graph.pb"))
        names = [[utils.op_name(port.tensor) for port in ports] for ports in (read.inputs, read.outputs)]
        return cls(definition, *names)

    @classmethod
    def fromList(cls, functions: Sequence[tuple[str | None, GraphFunction]]) -> GraphFunction:
        """Functions one after the other, each in its scope: the outputs of one feed the inputs of the next.

        Neighbours are linked in order; each needs as many inputs as the one before it has outputs.
        """
        import tensorflow as tf

        if not functions:
            raise SparkDLValueError("fromList needs at least one function.")
        for (_, before), (scope, after) in pairwise(functions):
            if len(before.output_names) != len(after.input_names):
                raise SparkDLValueError(
                    f"The function {scope or 'without a scope'} has {len(after.input_names)} inputs, but the "
                    f"one before it has {len(before.output_names)} outputs."
                )
        with IsolatedSession() as session:
            feeds: list[Any] = []
            tensors: list[Any] = []
            for number, (scope, function) in enumerate(functions):
                linked = dict(zip(function.input_names, tensors, strict=False)) if number else None
                prefix = scope or f"piece_{number}"
                given, tensors = session.importGraphFunction(function, input_map=linked, prefix=prefix)
                feeds = feeds or given
            named = [
                tf.identity(tensor, name)
                for tensor, name in zip(tensors, functions[-1][1].output_names, strict=True)
            ]
            return session.asGraphFunction(feeds, named)


class IsolatedSession:
    """A session of TensorFlow 1 over a graph of its own, which is the default one inside of the block."""

    def __init__(self, graph: Any | None = None, using_keras: bool = False) -> None:
        import tensorflow as tf

        if using_keras:
            raise SparkDLValueError(
                "Keras 3 does not build its models in sessions: make a GraphFunction with "
                "GraphFunction.fromKeras, and import it."
            )
        self.graph = tf.Graph() if graph is None else utils.validated_graph(graph)
        self.sess = tf.compat.v1.Session(graph=self.graph)
        self._defaults = ExitStack()

    def __enter__(self) -> IsolatedSession:
        self._defaults.enter_context(self.graph.as_default())
        self._defaults.enter_context(self.sess.as_default())
        return self

    def __exit__(self, *raised: Any) -> None:
        self._defaults.__exit__(*raised)
        self.sess.close()

    def run(self, *arguments: Any, **named: Any) -> Any:
        """Runs the graph, as `tf.compat.v1.Session.run`."""
        return self.sess.run(*arguments, **named)

    def asGraphFunction(
        self, inputs: Sequence[Any], outputs: Sequence[Any], strip_and_freeze: bool = True
    ) -> GraphFunction:
        """What runs from these placeholders to these tensors, its variables as constants.

        Without `strip_and_freeze` the whole graph as it is.
        """
        names = [
            [utils.validated_input(tensor, self.graph) for tensor in inputs],
            [utils.validated_output(tensor, self.graph) for tensor in outputs],
        ]
        if strip_and_freeze:
            definition = utils.strip_and_freeze_until(outputs, self.graph, self.sess)
        else:
            definition = self.graph.as_graph_def(add_shapes=True)
        return GraphFunction(definition, *names)

    def importGraphFunction(
        self, gfn: GraphFunction, input_map: dict[str, Any] | None = None, prefix: str = "GFN-IMPORT"
    ) -> tuple[list[Any], list[Any]]:
        """Puts a function into this graph: its inputs and its outputs there, as tensors.

        `input_map` gives tensors of this graph in the places of inputs, by their names in the function.
        """
        import tensorflow as tf

        given = {utils.op_name(name): tensor for name, tensor in (input_map or {}).items()}
        for name in given:
            if name not in gfn.input_names:
                raise SparkDLValueError(
                    f"The function has no input {name}; it has {', '.join(gfn.input_names)}."
                )
        scope = prefix.rstrip("/")
        tf.import_graph_def(
            gfn.graph_def, input_map={f"{name}:0": tensor for name, tensor in given.items()}, name=scope
        )

        def here(name: str) -> Any:
            return utils.get_tensor(f"{scope}/{name}" if scope else name, self.graph)

        inputs = [given[name] if name in given else here(name) for name in gfn.input_names]
        return inputs, [here(name) for name in gfn.output_names]
