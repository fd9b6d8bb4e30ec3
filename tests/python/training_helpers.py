"""Importable names that the tests of estimators give: a layer, a callback, and one that kills."""

import os
import signal

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
