"""TensorFlow graphs over blocks of rows of a DataFrame: `mapRows`, `mapBlocks`, `reduceBlocks`, `aggregate`.

A block is `batchSize` consecutive rows of a partition, fewer at its end. No more than a block is held at a
time, however large a partition or a group is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from sparkdl import _blocks, _engine
from sparkdl._tensor import Tensor, nearest
from sparkdl.exceptions import SparkDLValueError
from sparkdl.graph.input import TFInputGraph
from sparkdl.transformers import columns
from sparkdl.transformers.model_stage import Bundle, Plan
from sparkdl.transformers.tf_transformer import TFTransformer


def mapRows(
    dataset: DataFrame,
    graph: TFInputGraph | str,
    inputMapping: dict[str, str] | None = None,
    outputMapping: dict[str, str] | None = None,
    *,
    batchSize: int = 256,
    handleInvalid: str = "keep",
    errorCol: str | None = None,
    castInputs: bool = False,
    outputMode: str = "array",
    allowUnsafeOps: bool = False,
) -> DataFrame:
    """Adds the outputs of a graph of one row, which runs for each row.

    The tensors of the graph have no dimension for the rows: an input of shape `[any]` takes arrays of any
    length, which may differ from row to row. `batchSize` rows are one native call, and TensorFlow maps the
    graph over those of one shape in one run.

    :param graph: the graph, or the path or URI of its bundle. A lookup table, or a variable that the graph
        changes, is refused: use `mapBlocks`.
    :param inputMapping: column to input; when left out, each input is fed by the column of its name.
    :param outputMapping: output to new column; when left out, each output becomes a column of its name.
    :param handleInvalid: what becomes of rows with a null or of another shape, as in `TFTransformer`.
    :returns: the rows with one column more per output, after all others, in the order of their names.
    """
    stage = BlockStage("mapRows")
    stage.set_given(
        tfInputGraph=graph,
        inputMapping=inputMapping,
        outputMapping=outputMapping,
        batchSize=batchSize,
        handleInvalid=handleInvalid,
        errorCol=errorCol,
        castInputs=castInputs,
        outputMode=outputMode,
        allowUnsafeOps=allowUnsafeOps,
    )
    return stage.mapped(dataset)


def mapBlocks(
    dataset: DataFrame,
    graph: TFInputGraph | str,
    inputMapping: dict[str, str] | None = None,
    outputMapping: dict[str, str] | None = None,
    *,
    trim: bool = False,
    batchSize: int = 256,
    handleInvalid: str | None = None,
    errorCol: str | None = None,
    castInputs: bool = False,
    outputMode: str = "array",
    allowUnsafeOps: bool = False,
) -> DataFrame:
    """Adds the outputs of a graph that runs once for each block of rows, all of them in one tensor.

    The first dimension of every input is the rows of the block. Rows with a null, or of another shape than
    the first usable row of their block, are not in the tensor.

    :param graph: the graph, or the path or URI of its bundle.
    :param inputMapping: column to input; when left out, each input is fed by the column of its name.
    :param outputMapping: output to new column; when left out, each output becomes a column of its name.
    :param trim: whether the result has the outputs alone. They may then have any number of rows, as many
        in each output. Without it, every output must have as many rows as the block.
    :param handleInvalid: what becomes of rows that are not in the tensor: `"keep"` (null and a reason; the
        default without `trim`), `"skip"`, or `"error"` (the default with `trim`, which cannot keep them).
    :returns: the rows with one column more per output, after all others, in the order of their names.
    """
    stage = BlockStage("mapBlocksTrimmed" if trim else "mapBlocks")
    if trim and errorCol is not None:
        raise SparkDLValueError("With trim rows do not stay rows, so errorCol has no place: leave it out.")
    stage.set_given(
        tfInputGraph=graph,
        inputMapping=inputMapping,
        outputMapping=outputMapping,
        batchSize=batchSize,
        handleInvalid=handleInvalid or ("error" if trim else "keep"),
        errorCol=errorCol,
        castInputs=castInputs,
        outputMode=outputMode,
        allowUnsafeOps=allowUnsafeOps,
    )
    return stage.mapped(dataset)


def reduceBlocks(
    dataset: DataFrame,
    graph: TFInputGraph | str,
    *,
    batchSize: int = 256,
    handleInvalid: str = "error",
    castInputs: bool = False,
    allowUnsafeOps: bool = False,
) -> Row:
    """Reduces all rows to one by a graph that reduces any number of rows to one; runs a job.

    For each output `z` the graph has an input `z_input` with one dimension more, the rows; the column `z`
    feeds it. The graph runs on blocks of rows, and on blocks of what it gave for those, in no order that
    may be relied on: what it computes must not depend on how rows are grouped, as sums and maxima do not.

    :param handleInvalid: what becomes of rows with a null or of another shape than the others of their
        block: `"error"` or `"skip"`. An output is None where that leaves nothing.
    :returns: one field per output, in the order of their names.
    """
    stage = _reduction(graph, batchSize, handleInvalid, castInputs, allowUnsafeOps)
    found = stage.reduced(dataset).collect()
    if not found:
        raise SparkDLValueError("There is nothing to reduce: the DataFrame has no rows.")
    return found[0]


def aggregate(
    dataset: DataFrame,
    keys: str | Sequence[str],
    graph: TFInputGraph | str,
    *,
    batchSize: int = 256,
    handleInvalid: str = "error",
    castInputs: bool = False,
    allowUnsafeOps: bool = False,
) -> DataFrame:
    """Reduces the rows of each group to one, as `reduceBlocks` does for all rows.

    Rows of one group are brought together as `groupBy` does, and go through the graph block by block: a group
    may be larger than memory. Many small groups share a native call.

    :param keys: the columns to group by.
    :returns: one row per group: the keys, and one column per output in the order of their names, null where
        `handleInvalid="skip"` leaves nothing of the group.
    """
    names = [keys] if isinstance(keys, str) else list(keys)
    if not names:
        raise SparkDLValueError("aggregate needs a column to group by; reduceBlocks takes all rows together.")
    stage = _reduction(graph, batchSize, handleInvalid, castInputs, allowUnsafeOps)
    return stage.aggregated(dataset, names)


def _reduction(
    graph: Any, batch_size: int, handle_invalid: str, cast_inputs: bool, allow_unsafe_ops: bool
) -> BlockStage:
    stage = BlockStage("reduceBlocks")
    stage.set_given(
        tfInputGraph=graph,
        batchSize=batch_size,
        handleInvalid=handle_invalid,
        castInputs=cast_inputs,
        allowUnsafeOps=allow_unsafe_ops,
    )
    return stage


class BlockStage(TFTransformer):
    """A graph with the columns that it takes and gives, for one use."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Of the Python path, also where the jar is: Scala has functions of its own for it."""
        return object.__new__(cls)

    def __init__(self, operation: str) -> None:
        super().__init__()
        self._operation = operation

    def set_given(self, **values: Any) -> None:
        """Sets the values that are not None."""
        self._set(**{name: value for name, value in values.items() if value is not None})
        if self._operation not in ("mapRows", "mapBlocks") and self.getHandleInvalid() == "keep":
            raise SparkDLValueError(
                'handleInvalid cannot be "keep" where rows do not stay rows: it takes "skip" or "error".'
            )

    def mapped(self, dataset: DataFrame) -> DataFrame:
        """The rows, with the outputs."""
        bundle = self._bundle(dataset.sparkSession)
        inputs, outputs = self._tensors(bundle)
        if not self.isSet(self.inputMapping):
            self._set(inputMapping={tensor.plain_name(): tensor.name for tensor in inputs})
        if not self.isSet(self.outputMapping):
            self._set(outputMapping={tensor.name: tensor.plain_name() for tensor in outputs})
        if self._operation != "mapBlocksTrimmed":
            return self.transform(dataset)
        task, fields = self._block_task(dataset, bundle)
        return _run(_selected(dataset, self._inputs()), partial(_blocks.trimmed, task), fields)

    def reduced(self, dataset: DataFrame) -> DataFrame:
        """One row, or none where there is none."""
        task, fields = self._block_task(dataset, self._pair(dataset))
        reduced = partial(_blocks.reduced, task)
        of_partitions = _run(_selected(dataset, self._inputs()), reduced, fields)
        # A row of each partition is left, so one task may take them all.
        return _run(of_partitions.repartition(1), reduced, fields)

    def aggregated(self, dataset: DataFrame, keys: list[str]) -> DataFrame:
        """One row per group."""
        bundle = self._pair(dataset)
        for key in keys:
            columns.found(dataset.schema, key)
        columns.check_new(StructType([dataset.schema[key] for key in keys]), self._outputs())
        task, fields = self._block_task(dataset, bundle, keys=len(keys))
        # Spark says where a group begins: it knows when two keys are equal.
        of_keys = [columns.named(key) for key in keys]
        place = F.row_number().over(Window.partitionBy(*of_keys).orderBy(*of_keys))
        rows = _selected(dataset, [*keys, *self._inputs()], (place == 1).alias("begins"))
        return _run(rows, partial(_blocks.reduced, task), fields, kept=len(keys))

    def _pair(self, dataset: DataFrame) -> Bundle:
        """Maps each output to the input that takes what it gave before; the bundle that they are of."""
        bundle = self._bundle(dataset.sparkSession)
        inputs, outputs = self._tensors(bundle)
        taken = {}
        for output in outputs:
            wanted = f"{output.plain_name()}_input"
            found = [tensor for tensor in inputs if tensor.plain_name() == wanted]
            if not found:
                near = nearest(wanted, [tensor.plain_name() for tensor in inputs])
                raise SparkDLValueError(
                    f"The output {output.plain_name()} has no input {wanted}, which takes its rows; the "
                    f"nearest: {near}."
                )
            _check_pair(found[0], output)
            taken[output.plain_name()] = found[0].name
        self._set(inputMapping=taken, outputMapping={tensor.name: tensor.plain_name() for tensor in outputs})
        return bundle

    def _block_task(
        self, dataset: DataFrame, bundle: Bundle, keys: int = 0
    ) -> tuple[_blocks.Task, list[StructField]]:
        """What workers need to know, and the columns of the outputs."""
        self._check_model()
        schema = StructType([_field(dataset.schema, name) for name in self._inputs()])
        plan = self._plan(schema, bundle)
        opening = self._opening(dataset.sparkSession, bundle, plan, dataset.isStreaming)
        task = _blocks.Task(opening, keys, len(schema), self.getBatchSize(), tuple(plan.kinds))
        return task, plan.fields

    def _tensors(self, bundle: Bundle) -> tuple[list[Tensor], list[Tensor]]:
        inputs, outputs = super()._tensors(bundle)
        if self._operation == "mapRows":
            inputs = [tensor.whole() for tensor in inputs]
        if self._operation in ("mapRows", "reduceBlocks"):
            outputs = [tensor.whole() for tensor in outputs]
        if self._operation == "mapBlocksTrimmed":
            outputs = [tensor.any_rows(str(bundle.manifest["name"])) for tensor in outputs]
        return inputs, outputs

    def _opening(self, spark: SparkSession, bundle: Bundle, plan: Plan, in_stream: bool) -> _engine.Opening:
        opening = super()._opening(spark, bundle, plan, in_stream)
        # Some graphs turn out not to be of one row, or of blocks, only then.
        _engine.try_to_open(bundle.file, opening)
        return opening

    def _task(self) -> dict[str, str]:
        skips = self.getHandleInvalid() == "skip"
        return super()._task() | {
            "task": "blocks",
            "operation": self._operation,
            "skipInvalid": str(skips).lower(),
        }


def _check_pair(given: Tensor, output: Tensor) -> None:
    """Refuses an input that does not take rows of what the output is."""
    given.check_rows("the graph")
    sides = zip(given.shape, output.shape, strict=False)
    fits = len(given.shape) == len(output.shape) and all(a is None or b in (a, None) for a, b in sides)
    if given.dtype != output.dtype or not fits:
        raise SparkDLValueError(
            f"The input {given.name} takes rows of type {given.dtype} and shape {given.sides()}, so the "
            f"output {output.name} must be of that type and shape, without a dimension for the rows; it is "
            f"of type {output.dtype} and shape {output.sides()}."
        )


def _field(schema: StructType, name: str) -> StructField:
    columns.found(schema, name)
    return schema[name]


def _selected(dataset: DataFrame, names: list[str], *more: Column) -> DataFrame:
    """Columns by name; one name may stand twice."""
    return dataset.select(*(columns.named(name) for name in names), *more)


def _run(dataset: DataFrame, run: Any, fields: list[StructField], kept: int = 0) -> DataFrame:
    """The first columns, as many as are `kept`, and those of the outputs."""
    rows, travelling = columns.through_arrow(dataset)
    keys = StructType(travelling.fields[:kept])
    results = rows.mapInArrow(run, StructType([*keys.fields, *fields]))
    return columns.from_arrow(results, StructType(dataset.schema.fields[:kept]), keys)
