"""One model trained by Keras' `fit`. Only a trial's process imports this: it loads TensorFlow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparkdl import _engine
from sparkdl._keras import keras
from sparkdl.estimators import compiling, data_parallel, feeding
from sparkdl.exceptions import SparkDLError, SparkDLValueError

Send = Callable[[dict[str, Any]], None]

_STEPS_BETWEEN_CHECKS = 32


def trained(
    request: dict[str, Any], workers: data_parallel.Workers | None, send: Send
) -> tuple[Any, list[dict[str, Any]]]:
    """The trained model, with the weights of its best epoch where it stops early, and its history.

    With `workers` this process is one of those that train it together.
    """
    spec = request["spec"]
    model, flags = compiling.compiled(spec, Path(request["model"]))
    rows = feeding.opened(request)
    rows = _labelled(rows, request["labels"], spec["classWeights"], list(model.outputs[0].shape[1:]))
    seed = spec["seed"] or 0
    training, validation = feeding.split(rows, spec["validationFraction"], seed)
    if not len(training.place):
        raise SparkDLError("There are no rows to train on: validationFraction left none.", "InvalidArgument")
    any_seed = request["workers"]["seed"] if workers else int(np.random.default_rng().integers(1 << 31))
    shuffle_seed = (spec["seed"] if spec["seed"] is not None else any_seed) if spec["shuffle"] else None
    history = _history(spec["epochs"], send)
    # The caller's come first, so that the history has what they add to the numbers of an epoch.
    own = compiling.callbacks(spec["callbacks"])
    done = [*own, history, _finite(), *_early_stopping(spec, validation)]
    if workers is None:
        _fit(model, training, validation, spec, shuffle_seed, done)
    else:
        data_parallel.fit(model, workers, training, validation, spec, shuffle_seed, done)
    for layer, flag in flags:
        layer.trainable = flag
    return model, history.rows


def _fit(
    model: Any,
    training: feeding.Rows,
    validation: feeding.Rows | None,
    spec: dict[str, Any],
    shuffle_seed: int | None,
    callbacks: list[Any],
) -> None:
    size = spec["batchSize"]
    more = {}
    if validation is not None:
        more["validation_data"] = feeding.once(validation, spec["validationBatchSize"] or size)
        more["validation_freq"] = spec["validationFreq"]
    model.fit(
        feeding.endless(training, size, shuffle_seed),
        epochs=spec["epochs"],
        steps_per_epoch=spec["stepsPerEpoch"] or feeding.steps(training, size),
        shuffle=False,  # Which is done already; Keras would say that it cannot.
        verbose=0,
        callbacks=callbacks,
        **more,
    )


def saved(model: Any, folder: Path, spec: dict[str, Any]) -> dict[str, Path]:
    """The model as a Keras file, and as a bundle too where the file alone cannot be read natively."""
    model.optimizer, model.compiled = None, False  # Its state is twice the weights, and of no use to scoring.
    made = {"keras": folder / "model.keras"}
    model.save(made["keras"])
    if not spec["customObjects"]:
        return made
    bundle = folder / "model.sparkdl"
    try:
        _engine.convert_keras(made["keras"], bundle, "")
    except SparkDLValueError:
        from sparkdl._export import export

        size = spec["inputSize"]
        export(model, bundle, tensors=True, input_size=tuple(size) if size else None)
        made["sparkdl"] = bundle
    return made


def _labelled(rows: feeding.Rows, labels: dict[str, Any], weights: Any, shape: list[int]) -> feeding.Rows:
    found, classes = feeding.targets(rows.labels, labels, shape)
    factors = rows.weights
    if weights is not None:
        if classes is None:
            raise SparkDLValueError("classWeights is for classes, but the model is trained on numbers.")
        own = feeding.class_factors(classes, weights, math.prod(shape))
        factors = own if factors is None else factors * own
    return feeding.Rows(
        rows.inputs,
        rows.tables,
        rows.place,
        rows.keys,
        found,
        None if factors is None else factors.astype(np.float32),
    )


def _early_stopping(spec: dict[str, Any], validation: Any) -> list[Any]:
    options = spec["earlyStopping"]
    if options is None:
        return []
    monitor = "loss" if validation is None else "val_loss"
    stop = keras().callbacks.EarlyStopping(**{"monitor": monitor, **options, "restore_best_weights": True})
    return [stop]


def _history(epochs: int, send: Send) -> Any:
    class History(keras().callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rows: list[dict[str, Any]] = []
            self._since = time.monotonic()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._since = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            numbers = {name: float(value) for name, value in (logs or {}).items()}
            seconds = round(time.monotonic() - self._since, 3)
            self.rows.append({"epoch": epoch + 1, **numbers, "seconds": seconds})
            send({"epoch": epoch + 1, "epochs": epochs, "numbers": numbers})

    return History()


def _finite() -> Any:
    """Ends a training whose loss is no number any more: its weights are of no use."""

    class Finite(keras().callbacks.Callback):  # type: ignore[misc]
        _epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch % _STEPS_BETWEEN_CHECKS == 0:
                self._check(logs)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self._check(logs)

        def _check(self, logs: Any) -> None:
            loss = float((logs or {}).get("loss", 0.0))
            if not math.isfinite(loss):
                raise SparkDLError(
                    f"The loss became {loss} in epoch {self._epoch + 1}: try a smaller learningRate, or look "
                    "for labels and inputs that are no numbers.",
                    "InvalidModel",
                )

    return Finite()
