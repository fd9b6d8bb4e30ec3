"""One model trained by several processes at once, each on its share of every batch.

Keras' own `fit` does not run under `MultiWorkerMirroredStrategy` (Keras 3), so the step is ours. Model and
optimizer are plain ones, equal in every process: they read the same file and apply the same gradients, which
the strategy sums over the processes. So an optimizer sees (and clips) what it would see in one process.

Only a trial's process imports this: it loads TensorFlow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sparkdl._keras import keras
from sparkdl.estimators.feeding import Rows, epoch_order

Logs = dict[str, float]


class Workers:
    """The processes that train together, as one of them sees them."""

    def __init__(self, index: int, addresses: list[str]) -> None:
        """Waits until all of them are there. Must come before TensorFlow has run anything."""
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        )
        import tensorflow as tf

        self.index = index
        self.count = len(addresses)
        self._tf = tf
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy()

    def sums(self, tensors: list[Any]) -> list[Any]:
        """Each tensor summed over the processes; all of them must call it, with equal shapes."""

        def reduced(values: Any) -> Any:
            # Made here, so that they are on the device that this process trains with.
            values = [self._tf.identity(value) for value in values]
            context = self._tf.distribute.get_replica_context()
            return context.all_reduce(self._tf.distribute.ReduceOp.SUM, values)

        summed = self._strategy.run(reduced, args=(tensors,))
        return [self._strategy.experimental_local_results(one)[0] for one in summed]

    def share(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of a batch that is this process's; none where there are more processes than rows."""
        start, end = (len(batch) * index // self.count for index in (self.index, self.index + 1))
        return batch[start:end]


def fit(
    model: Any,
    workers: Workers,
    training: Rows,
    validation: Rows | None,
    spec: dict[str, Any],
    shuffle_seed: int | None,
    callbacks: list[Any],
) -> None:
    """Trains the compiled model as `model.fit` does, with the same batches and the same numbers of epochs."""
    said = keras().callbacks.CallbackList(callbacks, model=model, epochs=spec["epochs"])
    step, test = _step(model, workers), _test(model)
    moving = _moving(model)
    count, size = len(training.place), spec["batchSize"]
    # Metrics make what they hold with the first row that they see, and here a process may see none.
    test(*_arrays(training, np.arange(1)))
    model.stop_training = False
    said.on_train_begin()
    for epoch in range(spec["epochs"]):
        said.on_epoch_begin(epoch)
        model.reset_metrics()
        order, loss = epoch_order(count, shuffle_seed, epoch), 0.0
        for number, start in enumerate(range(0, count, size)):
            said.on_train_batch_begin(number)
            batch = order[start : start + size]
            own = workers.share(batch)
            x, y, weights = _arrays(training, own if len(own) else batch[:1])
            if not len(own):  # Every process takes part in every sum.
                weights = np.zeros(1, np.float32)
            part = np.float32(len(own) / len(batch))
            found = float(step(x, y, weights, part, bool(len(own))))
            loss += found * len(batch)
            said.on_train_batch_end(number, {"loss": found})
        _average(moving, workers)
        logs = _logs(model, workers, loss / count)
        if validation is not None:
            size_of_test = spec["validationBatchSize"] or size
            logs |= {
                f"val_{k}": v for k, v in _validated(model, workers, validation, size_of_test, test).items()
            }
        said.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    said.on_train_end()


def _step(model: Any, workers: Workers) -> Callable[..., Any]:
    import tensorflow as tf

    def step(x: Any, y: Any, weights: Any, part: Any, counts: bool) -> Any:
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            # The mean over the share, as a part of the mean over the batch.
            loss = part * model.compute_loss(x, y, predicted, weights, training=True)
            scaled = model.optimizer.scale_loss(loss)
        variables = list(model.trainable_weights)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        dense = [tf.convert_to_tensor(gradient) for gradient, _ in pairs]
        *summed, whole = workers.sums([*dense, loss])
        model.optimizer.apply(summed, [variable for _, variable in pairs])
        if counts:
            model.compute_metrics(x, y, predicted, weights)
        return whole

    return tf.function(step, autograph=False)  # type: ignore[no-any-return]


def _test(model: Any) -> Callable[..., Any]:
    import tensorflow as tf

    def test(x: Any, y: Any, weights: Any) -> Any:
        predicted = model(x, training=False)
        model.compute_metrics(x, y, predicted, weights)
        return model.compute_loss(x, y, predicted, weights, training=False)

    return tf.function(test, autograph=False)  # type: ignore[no-any-return]


def _validated(model: Any, workers: Workers, rows: Rows, size: int, test: Callable[..., Any]) -> Logs:
    """The numbers of validation. Regularization weighs by rows too, so each process adds its part."""
    import tensorflow as tf

    model.reset_metrics()
    places, loss = np.arange(len(rows.place)), 0.0
    for start in range(0, len(places), size):
        own = workers.share(places[start : start + size])
        if len(own):
            loss += float(test(*_arrays(rows, own))) * len(own)
    (whole,) = workers.sums([tf.constant(loss, tf.float64)])
    return _logs(model, workers, float(whole) / len(places))


def _logs(model: Any, workers: Workers, loss: float) -> Logs:
    """Loss and metrics over the rows of all processes: what metrics hold are sums."""
    states = [state for metric in model.metrics for state in metric.variables]
    if states:
        for state, value in zip(states, workers.sums([state.value for state in states]), strict=True):
            state.assign(value)
    found = {name: float(value) for name, value in model.get_metrics_result().items()}
    return {**found, "loss": loss}


def _moving(model: Any) -> list[Any]:
    """What layers that train note of their inputs, as the moving means of BatchNormalization."""
    found = []
    for layer in model._flatten_layers():
        if layer.trainable:
            own = [v for v in layer._non_trainable_variables if not v.trainable]
            found += [v for v in own if "float" in str(v.dtype)]
    return found


def _average(variables: list[Any], workers: Workers) -> None:
    if variables:
        values = workers.sums([variable.value for variable in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value / workers.count)


def _arrays(rows: Rows, chosen: npt.NDArray[Any]) -> tuple[Any, Any, Any]:
    x, y, *weights = rows.batch(chosen)
    return x, y, weights[0] if weights else None
