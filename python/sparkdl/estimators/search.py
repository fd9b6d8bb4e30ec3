"""A search: rows prepared once, a trial for each set of params, models in the order in which trials end."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import queue
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.util import inheritable_thread_target

from sparkdl import _shipping
from sparkdl.estimators import examined, labels, results, shards, trial_task, work
from sparkdl.estimators.labels import Labels
from sparkdl.estimators.progress import Board, Listener
from sparkdl.exceptions import SparkDLError, SparkDLValueError

if TYPE_CHECKING:
    from sparkdl.estimators.files import KerasFile
    from sparkdl.estimators.keras_fit import KerasFit
    from sparkdl.transformers.model_stage import Plan

_FORMAT = 1
"""Of what is recorded of trials: changes when a trial with the same params would give another model."""
_preparing = Lock()
"""Fits of one process that run side by side decode pictures one after the other, so none twice."""


@dataclass(frozen=True)
class Prepared:
    """A trial before it runs."""

    estimator: KerasFit
    file: KerasFile
    facts: dict[str, Any]
    labels: Labels
    selected: shards.Selected
    trial: trial_task.Trial
    key: str
    """Of everything that its model depends on."""


def search(estimator: KerasFit, dataset: DataFrame, estimators: list[KerasFit]) -> Search:
    """Checks everything, prepares the rows, and gives the search that runs the trials."""
    spark, schema = dataset.sparkSession, dataset.schema
    for one in estimators:
        one._check(schema)
    files = [one._file(spark) for one in estimators]
    specs = [one._spec(file) for one, file in zip(estimators, files, strict=True)]
    facts = examined.facts(specs, [str(file.path) for file in files])
    plans = [one._plan(schema, known) for one, known in zip(estimators, facts, strict=True)]
    kinds = [
        labels.check(schema[one.getLabelCol()], known) for one, known in zip(estimators, facts, strict=True)
    ]
    folder = work.folder(spark, estimator.getWorkDir() if estimator.isSet(estimator.workDir) else None)
    number = work.slots(spark)
    for one in estimators:
        if one.getNumWorkers() > number:
            raise SparkDLValueError(
                f"numWorkers is {one.getNumWorkers()}, but this cluster runs {number} tasks at a time: set a "
                "smaller numWorkers, or give the session more cores."
            )
    rows = _Rows(dataset, folder, number)
    prepared = []
    with _preparing:
        for one, file, spec, known, plan, kind in zip(
            estimators, files, specs, facts, plans, kinds, strict=True
        ):
            prepared.append(_prepared(one, file, spec, known, plan, kind, rows))
    return Search(spark, estimator, prepared, folder, number)


class _Rows:
    """What trials of one search share: labels that are resolved and rows that are written once."""

    def __init__(self, dataset: DataFrame, folder: str, slots: int) -> None:
        self.dataset = dataset
        self.folder = folder
        self.slots = slots
        self._labels: dict[Any, Labels] = {}
        self._selected: dict[Any, shards.Selected] = {}

    def labels(self, one: KerasFit, kind: str, facts: dict[str, Any]) -> Labels:
        name = one.getLabelCol()
        key = (name, kind, labels.outputs(facts), labels.is_regression(facts))
        if key not in self._labels:
            self._labels[key] = labels.resolved(self.dataset, self.dataset.schema[name], kind, facts)
        return self._labels[key]

    def selected(self, one: KerasFit, data: Any, found: Labels) -> shards.Selected:
        weight = one.getWeightCol() if one.isSet(one.weightCol) else None
        key = (repr(data.key), one.getLabelCol(), weight, found)
        if key not in self._selected:
            self._selected[key] = one._select(self.dataset, data, found, self.folder, self.slots)
        shards.check(self._selected[key], one.getHandleInvalid())
        return self._selected[key]


def _prepared(
    one: KerasFit,
    file: KerasFile,
    spec: dict[str, Any],
    facts: dict[str, Any],
    plan: Plan,
    kind: str,
    rows: _Rows,
) -> Prepared:
    spark = rows.dataset.sparkSession
    data = one._data(plan, facts, spark)
    found = rows.labels(one, kind, facts)
    spec = {**spec, "classWeights": labels.weights_by_index(spec["classWeights"], found)}
    if spec["classWeights"] is not None and labels.is_regression(facts):
        raise SparkDLValueError(
            f"classWeights is for classes, but the loss {facts['loss']} is for numbers: clear one of them."
        )
    selected = rows.selected(one, data, found)
    trial = trial_task.Trial(
        model=_shipping.ship(spark, file.path, file.digest, file.suffix),
        spec=spec,
        inputs=data.inputs,
        labels=labels.target(found, facts),
        weighted=one.isSet(one.weightCol),
        progress=None,
        said=_said(one),
        workers=one.getNumWorkers(),
    )
    depends = {key: value for key, value in spec.items() if key != "modelFile"}
    of = [_FORMAT, depends, data.inputs, repr(data.key), trial.labels, found.names, selected.digest]
    key = hashlib.sha256(json.dumps(of, sort_keys=True, default=repr).encode()).hexdigest()[:32]
    return Prepared(one, file, facts, found, selected, trial, key)


def _said(one: KerasFit) -> str:
    """The params of a trial that are set, as a person wrote them."""
    hidden = ("inputCol", "inputCols", "outputCol", "labelCol", "workDir", "parallelism", "imageLoader")
    values = {p.name: v for p, v in one._paramMap.items() if p.name not in hidden}
    return ", ".join(f"{name}={value!r}" for name, value in sorted(values.items()))


class Search(Iterator[tuple[int, Any]]):
    """Gives `(index, model)` as trials end; several threads may ask. The first that asks starts them."""

    def __init__(
        self, spark: SparkSession, estimator: KerasFit, prepared: list[Prepared], folder: str, slots: int
    ) -> None:
        self._spark = spark
        self._estimator = estimator
        self._prepared = prepared
        self._folder = folder
        self._resumes = estimator.isSet(estimator.workDir)
        self._finished = results.finished(spark, f"{folder}/trials") if self._resumes else set[str]()
        asked = (
            estimator.getParallelism()
            if estimator.isSet(estimator.parallelism)
            else _at_a_time(prepared, slots)
        )
        self._pool = ThreadPoolExecutor(max(1, min(asked, len(prepared))), "sparkdl-trials")
        self._done: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._lock = Lock()
        self._left = len(prepared)
        self._started = False
        self._tag = f"sparkdl-{uuid.uuid4().hex}"
        self._listener: Listener | None = None
        self._board: Board | None = None

    def __iter__(self) -> Search:
        return self

    def __next__(self) -> tuple[int, Any]:
        with self._lock:
            if not self._started:
                self._start()
            if self._left <= 0:
                raise StopIteration
            self._left -= 1
            last = self._left == 0
        try:
            index, result = self._done.get()
        except BaseException:  # an interrupted notebook
            self._end(True)
            raise
        if isinstance(result, BaseException):
            self._end(True)
            raise result
        if last:
            self._end(False)
        return index, result

    def _start(self) -> None:
        self._started = True
        if self._estimator._verbose() and self._prepared:
            names = [f"trial {index}" for index in range(len(self._prepared))]
            self._board = Board(names)
            self._listener = Listener(self._board, work.driver_host(self._spark))
        inherit: Any = inheritable_thread_target
        with_session: Callable[[Any], Any] = inherit(self._spark)
        for index in range(len(self._prepared)):
            self._pool.submit(with_session(partial(self._run, index)))
        if not self._prepared:
            self._end(False)

    def _end(self, early: bool) -> None:
        """Lets go of everything; `early`: what runs still is stopped."""
        with self._lock:
            self._left = 0 if early else self._left
        self._pool.shutdown(wait=False, cancel_futures=True)
        if early:
            work.stop(self._spark, self._tag)
            self._done.put((-1, SparkDLError("Another trial failed.", "Internal")))
        if self._listener is not None:
            self._listener.close()
        if not early:  # Else tasks that are being stopped may read them still.
            for folder in {prepared.selected.folder for prepared in self._prepared}:
                work.delete(self._spark, folder)

    def _run(self, index: int) -> None:
        prepared = self._prepared[index]
        try:
            work.tag(self._spark, self._tag)
            self._say(index, "running")
            model = self._model(index, prepared)
            self._say(index, "done")
            self._done.put((index, model))
        except Exception as error:
            failure = _failure(error, prepared)
            self._say(index, f"failed: {str(failure).splitlines()[0]}")
            if self._estimator.getFailMode() == "skip" and isinstance(failure, TrialError):
                logging.getLogger("sparkdl").warning("%s It is skipped (failMode).", failure.args[0])
                self._done.put((index, results.failed_model(prepared, str(failure))))
            else:
                self._done.put((index, failure))
        except BaseException as error:
            self._done.put((index, error))

    def _model(self, index: int, prepared: Prepared) -> Any:
        place = f"{self._folder}/trials/{prepared.key}"
        known = results.read(self._spark, place, prepared) if prepared.key in self._finished else None
        if known is not None:
            self._say(index, "was done before")
            return known
        if not self._resumes:
            place = f"{place}-{uuid.uuid4().hex}"
        progress = self._listener.place(index) if self._listener is not None else None
        trial = trial_task.Trial(**{**vars(prepared.trial), "progress": progress})
        rows = shards.for_tasks(prepared.selected.rows, trial.workers).mapInArrow(
            partial(trial_task.run, trial), trial_task.RESULT, barrier=trial.workers > 1
        )
        options = {"parquet.block.row.count.limit": "8", "compression": "uncompressed"}
        rows.write.mode("overwrite").options(**options).parquet(place)
        model = results.read(self._spark, place, prepared)
        if model is None:
            raise SparkDLError(f"What the trial with {trial.said} left in {place} is damaged.", "Io")
        if self._resumes:
            self._finished.add(prepared.key)
        else:
            work.delete(self._spark, place)
        return model

    def _say(self, index: int, state: str) -> None:
        if self._board is not None:
            self._board.state(index, state)


def _at_a_time(prepared: list[Prepared], slots: int) -> int:
    """Tasks that train together start together or not at all: no more trials than all find slots."""
    return slots // max((one.trial.workers for one in prepared), default=1)


class TrialError(SparkDLError):
    """A trial that failed: which one, and what its process said."""

    def __init__(self, message: str, kind: str, trace: str = "") -> None:
        super().__init__(message, kind)
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.trace}".rstrip() if self.trace else str(self.args[0])


def _failure(error: Exception, prepared: Prepared) -> SparkDLError:
    """What a trial's own process said, out of what Spark makes of it."""
    found = re.search(f"{trial_task.BEGIN} ([A-Za-z0-9+/=]+) {trial_task.END}", str(error))
    if found is not None:
        said = json.loads(base64.b64decode(found[1]))
        return TrialError(said["text"], "Internal", said["traceback"])
    if isinstance(error, SparkDLError):
        return error
    return TrialError(f"The trial with {prepared.trial.said} failed: {error}", "Internal")
