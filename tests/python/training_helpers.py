"""Importable names that the tests of estimators give: a layer, a callback, and one that kills."""

import json
import os
import signal
import time

import keras


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):
    """Twice its input."""

    def call(self, inputs):
        return 2 * inputs


class Counting(keras.callbacks.Callback):
    """Counts epochs among the metrics of the history."""

    def on_epoch_end(self, epoch, logs=None):
        logs["counted"] = float(epoch)


class Killing(keras.callbacks.Callback):
    """Ends the process as the system does when memory runs out."""

    def on_epoch_end(self, epoch, logs=None):
        os.kill(os.getpid(), signal.SIGKILL)


class Slow(keras.callbacks.Callback):
    """Takes half a second an epoch, so that a test can meet a trial while it runs."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.5)


@keras.saving.register_keras_serializable("tests")
class Faulty(keras.layers.Layer):
    """Fails in the second of the workers that train together."""

    def call(self, inputs):
        if json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"] == 1:
            raise RuntimeError("the second worker fails")
        return inputs
