"""Models as SQL functions: `registerModelUDF`, `registerKerasImageUDF`, `makeGraphUDF`, `registerPipeline`.

A registered function works in SQL, in `expr(...)`, on streams and under Spark Connect. It runs batches of
rows through the native module, where Spark runs it: rows without a result are NULL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, BinaryType, DataType, FloatType, StructField, StructType

from sparkdl import _functions, _shipping
from sparkdl.blocks import BlockStage
from sparkdl.exceptions import SparkDLValueError
from sparkdl.graph.input import TFInputGraph
from sparkdl.models import supported_models
from sparkdl.transformers import tensor_columns
from sparkdl.transformers.deep_image_featurizer import DeepImageFeaturizer
from sparkdl.transformers.deep_image_predictor import DeepImagePredictor
from sparkdl.transformers.model_stage import ModelStage
from sparkdl.transformers.tf_image_transformer import TFImageTransformer
from sparkdl.transformers.tf_transformer import TFTransformer

TASKS = ("predict", "featurize", "run", "images")

_OF_COLUMNS = {"inputCol", "outputCol", "inputMapping", "outputMapping", "outputMode", "decodePredictions"}
_OF_COLUMNS |= {"modelName", "graph", "tfInputGraph", "castInputs", "handleInvalid", "errorCol"}

_PICTURE = "picture"
_RESULT = "result"

_lock = threading.Lock()
_registered: WeakKeyDictionary[SparkSession, dict[str, tuple[_functions.Function, DataType]]] = (
    WeakKeyDictionary()
)


def registerModelUDF(
    spark: SparkSession,
    name: str,
    model: Any,
    *,
    task: str | None = None,
    topK: int | None = None,
    batchSize: int | None = None,
    **params: Any,
) -> Any:
    """Registers a model as a SQL function.

    :param name: of the function.
    :param model: the name of a built-in network, the path or URI of a Keras file (`.keras`, `.h5`) or of a
        bundle (`.sparkdl`), a live `keras.Model`, or a `TFInputGraph`.
    :param task: what the function does. `"predict"`: a picture (encoded, or Spark's image struct) to scores
        (`array<float>`), or with `topK` to the best classes (`array<struct<class, description,
        probability>>`, best first). `"featurize"`: a picture to features (`array<float>`). Both take
        built-in networks and bundles of them. `"run"`: one column for each input of a model on tensors, in
        the order of `TFInputGraph.printSchema()`, or one struct with fields of their names, to its output,
        several outputs to a struct.
        `"images"`: a picture into a model on tensors of one input, to all numbers of its output
        (`array<float>`). When left out, `"predict"` for networks and `"run"` for models on tensors.
    :param batchSize: rows of one native call.
    :param params: further params of the stage that does the same: `DeepImagePredictor`,
        `DeepImageFeaturizer`, `TFTransformer` or `TFImageTransformer`.
    :returns: the function, to be called on columns.
    """
    if task is not None and task not in TASKS:
        raise SparkDLValueError(f'task cannot be "{task}"; it takes {", ".join(TASKS)}.')
    for param in params:
        if param in _OF_COLUMNS:
            raise SparkDLValueError(
                f"The param {param} has no place in a function: a query names columns, and rows without a "
                "result are NULL."
            )
    is_network = _is_network(spark, model)
    task = task or ("predict" if is_network else "run")
    given = {name: value for name, value in (("batchSize", batchSize), *params.items()) if value is not None}
    if topK is not None and task != "predict":
        raise SparkDLValueError(f'topK goes with the task "predict", not "{task}": leave it out.')
    if is_network != (task in ("predict", "featurize")):
        kind, takes = ("network", "predict, featurize") if is_network else ("model on tensors", "run, images")
        raise SparkDLValueError(f'A {kind} does not do the task "{task}"; it takes {takes}.')
    if task == "predict":
        best: dict[str, Any] = {} if topK is None else {"decodePredictions": True, "topK": topK}
        stage: ModelStage = DeepImagePredictor(**_network(model), **best, **given)
        return _register(spark, name, *_of_pictures(spark, stage))
    if task == "featurize":
        stage = DeepImageFeaturizer(**_network(model), **given)
        return _register(spark, name, *_of_pictures(spark, stage))
    graph = _graph(model)
    if task == "images":
        return _register(spark, name, *_of_images(spark, graph, given))
    return _register(spark, name, *_of_tensors(spark, TFTransformer(), graph, given))


def registerKerasImageUDF(
    udf_name: str, keras_model_or_file_path: Any, preprocessor: Callable[[str], Any] | None = None
) -> Any:
    """Registers a Keras model on pictures as a SQL function of encoded pictures or Spark's image structs.

    The result is all numbers of the model's output, `array<float>`. A picture goes in as RGB, samples from 0
    to 255, resized to the model's input; or as the `preprocessor` reads it, a function of the path of a
    picture's file to an array `[height, width, channels]` that the workers call.
    """
    spark = SparkSession.active()
    graph = _graph(keras_model_or_file_path)
    function, kind = _of_images(spark, graph, {})
    if preprocessor is not None:
        model, _ = _of_tensors(spark, TFTransformer(), graph, {})
        outputs = tuple((name, "array") for name, _ in model.outputs)
        tensors = _functions.ModelFunction(model.model, model.inputs, outputs, model.batch_size)
        return _register(spark, udf_name, _functions.Preprocessed(tensors, preprocessor), kind)
    return _register(spark, udf_name, function, kind)


def makeGraphUDF(
    graph: Any,
    udf_name: str,
    fetches: Sequence[Any],
    feeds_to_fields_map: dict[Any, str] | None = None,
    blocked: bool = False,
    register: bool = True,
) -> Any:
    """Makes a SQL function of a TensorFlow graph.

    :param graph: a `tf.Graph` without variables, a `GraphDef`, or a `TFInputGraph`.
    :param fetches: tensors, by name or themselves. One makes a value or nested arrays, several a struct.
    :param feeds_to_fields_map: placeholder to the field of a struct that feeds it: the function then takes
        one struct. When left out it takes a column for each placeholder that the fetches need, in the order
        of the graph, or one struct with fields of their names.
    :param blocked: whether the tensors have a dimension for the rows; else the graph is of one row.
    :param register: whether the function can be used in SQL, under `udf_name`.
    """
    spark = SparkSession.active()
    read = graph if isinstance(graph, TFInputGraph) else _read(graph, fetches)
    stage = TFTransformer() if blocked else BlockStage("mapRows")
    function, kind = _of_tensors(spark, stage, read, {}, [_name(fetch) for fetch in fetches])
    if feeds_to_fields_map:
        fields = {_name(feed): field for feed, field in feeds_to_fields_map.items()}
        unknown = [name for name in fields if name not in function.inputs]
        if unknown or len(fields) < len(function.inputs):
            raise SparkDLValueError(
                f"feeds_to_fields_map must name each placeholder once ({', '.join(function.inputs)}) but "
                f"names {', '.join(fields)}."
            )
        names = tuple(fields[name] for name in function.inputs)
        function = _functions.ModelFunction(function.model, names, function.outputs, function.batch_size)
    return _register(spark, udf_name, function, kind) if register else _udf(function, kind)


def registerPipeline(name: str, names: Sequence[str]) -> Any:
    """Registers functions that were registered here as one: each takes what the one before it gives."""
    spark = SparkSession.active()
    known = _registered.get(spark, {})
    if not names:
        raise SparkDLValueError("A pipeline needs the names of functions, but names is empty.")
    for one in names:
        if one not in known:
            there = ", ".join(sorted(known)) or "none"
            raise SparkDLValueError(
                f"The function {one} was not registered by this package in this session; there are: {there}."
            )
    functions = [known[one] for one in names]
    for one, (function, _) in list(zip(names, functions, strict=True))[1:]:
        if function.arguments != 1:
            raise SparkDLValueError(
                f"The function {one} takes {function.arguments} columns, so it can only be the first of a "
                "pipeline."
            )
    pipeline = _functions.Pipeline(tuple(function for function, _ in functions))
    return _register(spark, name, pipeline, functions[-1][1])


def _is_network(spark: SparkSession, model: Any) -> bool:
    if not isinstance(model, str):
        return False
    if model in supported_models():
        return True
    if not model.endswith((".sparkdl", ".keras", ".h5", ".hdf5")):
        raise SparkDLValueError(
            f"Unknown model {model}. Known models: {', '.join(supported_models())}; or give the path of a "
            "Keras file (.keras, .h5) or of a bundle (.sparkdl)."
        )
    if not model.endswith(".sparkdl"):
        return False
    stage = TFTransformer(tfInputGraph=model)
    return stage._bundle(spark).is_for_pictures()


def _network(model: Any) -> dict[str, Any]:
    return {"modelName": model, "inputCol": _PICTURE, "outputCol": _RESULT, "outputMode": "array"}


def _graph(model: Any) -> TFInputGraph:
    if isinstance(model, TFInputGraph):
        return model
    is_bundle = isinstance(model, str) and model.endswith(".sparkdl")
    return TFInputGraph.fromBundle(model) if is_bundle else TFInputGraph.fromKeras(model)


def _of_pictures(spark: SparkSession, stage: Any) -> tuple[_functions.ModelFunction, DataType]:
    schema = StructType([StructField(_PICTURE, BinaryType())])
    return _planned(spark, stage, schema, (_PICTURE,))


def _of_images(
    spark: SparkSession, graph: TFInputGraph, given: dict[str, Any]
) -> tuple[_functions.ModelFunction, DataType]:
    if len(graph.outputs) != 1:
        names = ", ".join(tensor.name for tensor in graph.outputs)
        raise SparkDLValueError(
            f"The model {graph.name} has {len(graph.outputs)} outputs ({names}), but a function of pictures "
            "gives one: register it with one of them, or use TFImageTransformer."
        )
    values = {"inputCol": _PICTURE, "outputCol": _RESULT, "outputMode": "array"} | given
    function, _ = _of_pictures(spark, TFImageTransformer(graph=graph, **values))
    flat = ((_RESULT, "array"),)
    model = _functions.ModelFunction(function.model, function.inputs, flat, function.batch_size)
    return model, ArrayType(FloatType(), False)


def _of_tensors(
    spark: SparkSession,
    stage: TFTransformer,
    graph: TFInputGraph,
    given: dict[str, Any],
    fetches: Sequence[str] = (),
) -> tuple[_functions.ModelFunction, DataType]:
    stage._set(tfInputGraph=graph, castInputs=True, **given)
    inputs, outputs = stage._tensors(stage._bundle(spark))
    asked = [tensor for tensor in outputs if not fetches or any(tensor.is_called(name) for name in fetches)]
    # Columns are sorted by name, so that those of the inputs stay in their order.
    columns = {f"_{index:04}": tensor for index, tensor in enumerate(inputs)}
    stage._set(
        inputMapping={column: tensor.name for column, tensor in columns.items()},
        outputMapping={tensor.name: tensor.plain_name() for tensor in asked},
    )
    fields = [tensor_columns.output_field(column, "array", tensor) for column, tensor in columns.items()]
    return _planned(spark, stage, StructType(fields), tuple(tensor.plain_name() for tensor in inputs))


def _planned(
    spark: SparkSession, stage: Any, schema: StructType, inputs: tuple[str, ...]
) -> tuple[_functions.ModelFunction, DataType]:
    stage._check(schema)
    bundle = stage._bundle(spark)
    plan = stage._plan(schema, bundle)
    # A function may be used in a stream.
    opening = stage._opening(spark, bundle, plan, in_stream=_shipping.is_connect(spark))
    outputs = tuple((field.name, kind) for field, kind in zip(plan.fields, plan.kinds, strict=True))
    function = _functions.ModelFunction(opening, inputs, outputs, stage.getBatchSize())
    kind = plan.fields[0].dataType if len(plan.fields) == 1 else StructType(plan.fields)
    return function, kind


def _read(graph: Any, fetches: Sequence[Any]) -> TFInputGraph:
    """What runs of a `tf.Graph` or `GraphDef` for these tensors, fed by all placeholders that it needs."""
    from sparkdl.graph import utils

    definition = graph.as_graph_def() if hasattr(graph, "as_graph_def") else graph
    names = [_name(fetch) for fetch in fetches]
    needed = utils.strip_and_freeze_until(names, graph) if definition is not graph else graph
    feeds = [node.name for node in needed.node if node.op == "Placeholder"]
    if not feeds:
        raise SparkDLValueError(f"The graph needs no placeholder for {', '.join(names)}: it has no inputs.")
    return TFInputGraph.fromGraphDef(needed, feeds, names)


def _name(tensor: Any) -> str:
    from sparkdl.graph import utils

    return (tensor if isinstance(tensor, str) else utils.tensor_name(tensor)).removesuffix(":0")


def _register(spark: SparkSession, name: str, function: _functions.Function, kind: DataType) -> Any:
    made = spark.udf.register(name, _udf(function, kind))
    with _lock:
        _registered.setdefault(spark, {})[name] = function, kind
    return made


def _udf(function: _functions.Function, kind: DataType) -> Any:
    try:
        from pyspark.sql.functions import arrow_udf  # type: ignore[attr-defined, unused-ignore]
    except ImportError:
        import pyspark

        raise SparkDLValueError(
            f"Functions need the Arrow functions of Spark 4.1, but this is PySpark {pyspark.__version__}: "
            "use the stage that does the same."
        ) from None
    run = _functions.over_batches(function)

    # Spark tells from the types what kind of function it is.
    def over_batches(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
        yield from run(batches)

    over_batches.__annotations__ = {"batches": Iterator[pa.Array], "return": Iterator[pa.Array]}
    return arrow_udf(over_batches, kind)
