"""From what a trial left in the working folder to a fitted model."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from sparkdl import _cache
from sparkdl.estimators import labels, shards, trial_task

if TYPE_CHECKING:
    from sparkdl.estimators.models import FittedModel
    from sparkdl.estimators.search import Prepared


def finished(spark: SparkSession, folder: str) -> set[str]:
    """The keys of trials that left something in this folder, found in one job."""
    shards.make_folder(spark, folder, trial_task.RESULT)
    trials = spark.read.schema(trial_task.RESULT).option("recursiveFileLookup", "true").parquet(folder)
    files = trials.where("chunk = -1").select("_metadata.file_path").collect()
    return {row["file_path"].split("/")[-2] for row in files}


def read(spark: SparkSession, place: str, prepared: Prepared) -> FittedModel | None:
    """The model of a trial that was finished there; None where there is none, or not all of it."""
    chunks = spark.read.schema(trial_task.RESULT).parquet(place).coalesce(1)
    rows = chunks.sortWithinPartitions("chunk").toLocalIterator()
    folder = _cache.made(_cache.cache_folder(spark) / "fitted")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        parts = {suffix: Path(temporary) / f"model.{suffix}" for suffix in ("keras", "sparkdl")}
        with ExitStack() as stack:
            targets = {suffix: stack.enter_context(part.open("wb")) for suffix, part in parts.items()}
            said = trial_task.result_of(rows, targets)  # type: ignore[arg-type]
        if said is None:
            return None
        # Both lie under one name, so that who has the bundle finds the Keras file beside it.
        digest = said["files"]["keras"]["sha256"]
        for suffix in said["made"]:
            os.replace(parts[suffix], folder / f"{digest}.{suffix}")
    file = folder / f"{digest}.{'sparkdl' if 'sparkdl' in said['made'] else 'keras'}"
    return _model(prepared)._set(modelFile=str(file), trainingHistory=json.dumps(said["history"]))


def failed_model(prepared: Prepared, reason: str) -> FittedModel:
    """What stands for a trial that failed: its predictions never win."""
    model = _model(prepared)
    model.clear(model.modelFile)
    return model._set(predictionKind="failed", failure=reason)


def _model(prepared: Prepared) -> FittedModel:
    found, facts = prepared.labels, prepared.facts
    model = prepared.estimator._fitted()
    return model._set(
        predictionKind=labels.prediction_kind(found, facts),
        threshold=facts["threshold"],
        labelKind=found.kind,
        labels=list(found.names),
        classes=labels.outputs(facts),
    )
