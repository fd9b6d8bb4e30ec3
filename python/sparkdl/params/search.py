"""How trials run, and what the fitted models add to their rows."""

from __future__ import annotations

from typing import TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkdl.params.checks import at_least, choice, not_empty

P = TypeVar("P", bound=Params)


class HasTrials(Params):
    """How trials run."""

    parallelism: Param[int] = Param(
        Params._dummy(),
        "parallelism",
        "trials that run at a time (at least 1); as many as the cluster has slots for tasks when unset",
        at_least("parallelism", 1),
    )
    numWorkers: Param[int] = Param(
        Params._dummy(),
        "numWorkers",
        "tasks that train one model together, each on its share of every batch (at least 1); they start at "
        "once, in Spark's barrier mode, and all of them hold all rows in files",
        at_least("numWorkers", 1),
    )
    failMode: Param[str] = Param(
        Params._dummy(),
        "failMode",
        'what a trial that fails does: "fail" (fit raises what it said) or "skip" (its model never wins: it '
        "predicts -1, or 1e150 where numbers are predicted, and its failure says why)",
        choice("failMode", ("fail", "skip")),
    )
    workDir: Param[str] = Param(
        Params._dummy(),
        "workDir",
        "folder (any URI that Spark writes) for decoded pictures and finished trials: later fits take up "
        "what is there. When unset, a temporary folder of this process, where Spark runs in local mode",
        not_empty("workDir"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(failMode="fail", numWorkers=1)

    def getParallelism(self) -> int:
        """Trials that run at a time."""
        return self.getOrDefault(self.parallelism)

    def setParallelism(self: P, value: int) -> P:
        """Sets how many trials run at a time, from 1 on."""
        return self._set(parallelism=value)

    def getNumWorkers(self) -> int:
        """Tasks that train one model together."""
        return self.getOrDefault(self.numWorkers)

    def setNumWorkers(self: P, value: int) -> P:
        """Sets how many tasks train one model together, from 1 on.

        A step is that of one task with the whole batch: losses and weights differ in the last bits alone.
        Exceptions: each task draws its own dropout, and `BatchNormalization` sees its share of the batch.
        kerasCallbacks and, of kerasFitParams, steps_per_epoch and validation_freq are not supported then.
        The tasks send gradients to each other over TCP in plain text, as TensorFlow does, on ports that the
        system gives. All of them must find a slot at once, and Spark refuses this with dynamic allocation.
        """
        return self._set(numWorkers=value)

    def getFailMode(self) -> str:
        """`"fail"` or `"skip"`."""
        return self.getOrDefault(self.failMode)

    def setFailMode(self: P, value: str) -> P:
        """Sets what a trial that fails does: `"fail"`: fit raises; `"skip"`: its model never wins."""
        return self._set(failMode=value)

    def getWorkDir(self) -> str:
        """The folder for decoded pictures and finished trials."""
        return self.getOrDefault(self.workDir)

    def setWorkDir(self: P, value: str) -> P:
        """Sets the folder (any URI that Spark writes) for decoded pictures and finished trials.

        A search that was interrupted goes on there with the trials that are missing.
        """
        return self._set(workDir=value)


class HasLabelIndexCol(Params):
    """The column of labels as numbers."""

    labelIndexCol: Param[str] = Param(
        Params._dummy(),
        "labelIndexCol",
        "column for the label as the index of its class (double), where labelCol does not hold that itself; "
        "a label that was not trained on gets the number of classes",
        not_empty("labelIndexCol"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(labelIndexCol="labelIndex")

    def getLabelIndexCol(self) -> str:
        """The column for the label as an index."""
        return self.getOrDefault(self.labelIndexCol)

    def setLabelIndexCol(self: P, value: str) -> P:
        """Sets the column for the label as an index, which MLlib's evaluators take as labelCol."""
        return self._set(labelIndexCol=value)


class HasPredictions(Params):
    """How a fitted model's scores become predictions, and what became of its training."""

    predictionKind: Param[str] = Param(
        Params._dummy(),
        "predictionKind",
        'what predictionCol holds: "class" (the index of the best score), "binary" (1 where the only score '
        'is above threshold), "value" (the only score), "none" (there is no such column), or "failed"',
        choice("predictionKind", ("class", "binary", "value", "none", "failed")),
    )
    threshold: Param[float] = Param(
        Params._dummy(), "threshold", "score above which a binary prediction is 1", TypeConverters.toFloat
    )
    labelKind: Param[str] = Param(
        Params._dummy(),
        "labelKind",
        'what labelCol held in training: "number" (an index or a value), "vector" (one number for each '
        'output), or "text" (labels that were indexed)',
        choice("labelKind", ("number", "vector", "text")),
    )
    labels: Param[list[str]] = Param(
        Params._dummy(), "labels", "labels by index; empty: they are numbers", TypeConverters.toListString
    )
    classes: Param[int] = Param(
        Params._dummy(), "classes", "numbers that the model gives for a row", at_least("classes", 0)
    )
    trainingHistory: Param[str] = Param(
        Params._dummy(),
        "trainingHistory",
        "loss and metrics of each epoch, as JSON",
        TypeConverters.toString,
    )
    failure: Param[str] = Param(
        Params._dummy(), "failure", "why the training failed; empty: it did not", TypeConverters.toString
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            predictionKind="none",
            threshold=0.5,
            labelKind="number",
            labels=[],
            classes=0,
            trainingHistory="[]",
            failure="",
        )

    def getLabels(self) -> list[str]:
        """The labels by index; empty where they are numbers."""
        return self.getOrDefault(self.labels)
