"""What the processes of trials do with a model and its rows, without Spark."""

import re
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

import keras_models
from sparkdl import SparkDLValueError

keras = pytest.importorskip("keras")
compiling = pytest.importorskip("sparkdl.estimators.compiling")
feeding = pytest.importorskip("sparkdl.estimators.feeding")

pytestmark = pytest.mark.once

SPEC = {
    "modelFile": "model.keras",
    "customObjects": {},
    "optimizer": "adam",
    "loss": "mse",
    "metrics": [],
    "learningRate": None,
    "trainableLayers": None,
    "numWorkers": 1,
    "seed": 1,
}


def nested():
    keras.utils.set_random_seed(3)
    inner = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="first"),
            keras.layers.BatchNormalization(name="norm"),
        ],
        name="body",
    )
    given = keras.Input((3,))
    return keras.Model(given, keras.layers.Dense(2, name="head")(inner(given)), name="outer")


@pytest.fixture
def file(tmp_path):
    from pathlib import Path

    return Path(keras_models.saved(nested(), tmp_path))


def trains(model):
    return {layer.name for layer in model._flatten_layers() if layer.trainable and layer.trainable_weights}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["head"], {"outer", "head"}),
        (["first"], {"outer", "body", "first"}),
        (["body"], {"outer", "body", "first", "norm"}),
    ],
)
def test_the_named_layers_train_and_no_others(file, names, expected):
    model, flags = compiling.compiled({**SPEC, "trainableLayers": names}, file)
    assert trains(model) == expected
    for layer, flag in flags:
        layer.trainable = flag
    assert trains(model) == {"outer", "body", "first", "norm", "head"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": "adamm"}, "kerasOptimizer names adamm: Keras has none of this name; it has Adam"),
        ({"loss": "mean_squared_eror"}, "it has mean_squared_error"),
        ({"metrics": ["acuracy"]}, "kerasMetrics names acuracy: Keras has none of this name; it has"),
        ({"trainableLayers": ["haed"]}, "has no layer haed (trainableLayers): did you mean head"),
        ({"loss": None}, "was saved without a loss: set kerasLoss"),
        ({"customObjects": {"Swirl": "no.such.Swirl"}}, "names no.such.Swirl, which cannot be imported"),
    ],
)
def test_names_that_keras_does_not_know_are_refused(file, change, said):
    with pytest.raises(SparkDLValueError, match=re.escape(said)):
        compiling.compiled({**SPEC, **change}, file)


def test_a_compiled_file_brings_its_loss_along(tmp_path):
    from pathlib import Path

    model = nested()
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    file = Path(keras_models.saved(model, tmp_path))
    found, _ = compiling.compiled({**SPEC, "loss": None, "optimizer": None, "learningRate": 0.5}, file)
    facts = compiling.facts(found)
    assert (facts["loss"], facts["family"], facts["threshold"]) == (
        "categorical_crossentropy",
        "categorical",
        0.0,
    )
    assert float(found.optimizer.learning_rate) == 0.5


@pytest.mark.parametrize(
    ("name", "spec", "labels", "expected"),
    [
        ("one-hot of indexes", ("number", "categorical"), [0.0, 2.0], [[1, 0, 0], [0, 0, 1]]),
        ("indexes", ("number", "sparse"), [0.0, 2.0], [0, 2]),
        ("indexes of one-hot", ("vector", "sparse"), [[1, 0, 0], [0, 0, 1]], [0, 2]),
        ("one-hot as it is", ("vector", "categorical"), [[1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]]),
    ],
)
def test_labels_have_the_shape_that_the_loss_wants(name, spec, labels, expected):
    kind, family = spec
    found, classes = feeding.targets(
        np.array(labels, np.float32), {"kind": kind, "family": family, "texts": False}, [3]
    )
    assert found.tolist() == expected
    assert classes.tolist() == [0, 2]


def test_class_weights_balance():
    classes = np.array([0, 0, 0, 1])
    assert feeding.class_factors(classes, {"1": 5.0}, 1).tolist() == [1, 1, 1, 5]
    balanced = feeding.class_factors(classes, "balanced", 1)
    np.testing.assert_allclose([balanced[:3].sum(), balanced[3:].sum()], [2, 2])


def rows_of(keys):
    count = len(keys)
    return feeding.Rows(
        [np.zeros((count, 1))],
        [None],
        np.arange(count),
        np.array(keys, "S32"),
        np.zeros(count, np.float32),
        None,
    )


def test_equal_inputs_validate_or_train_together():
    keys = [b"%02d" % (n // 3) for n in range(60)]
    training, validation = feeding.split(rows_of(keys), 0.25, 1)
    assert len(validation.place) == 15
    assert not set(training.keys.tolist()) & set(validation.keys.tolist())
    again = feeding.split(rows_of(keys), 0.25, 2)[1]
    assert set(again.keys.tolist()) != set(validation.keys.tolist())


def test_passes_follow_each_other_and_each_holds_every_row_once():
    rows = rows_of([b"%02d" % n for n in range(10)])
    found = [labels.numpy().tolist() for _, labels in feeding.endless(numbered(rows), 4, 7).take(6)]
    assert [len(batch) for batch in found] == [4, 4, 2, 4, 4, 2]
    assert [*chain(*found[:3])] == feeding.epoch_order(10, 7, 0).tolist()
    assert [*chain(*found[3:])] == feeding.epoch_order(10, 7, 1).tolist()
    assert feeding.steps(rows, 4) == 3
    in_order = [labels.numpy().tolist() for _, labels in feeding.once(numbered(rows), 4)]
    assert in_order == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_have_the_inputs_and_weights_of_the_model():
    rows = numbered(rows_of([b"%02d" % n for n in range(3)]))
    more = replace(rows, inputs=[np.ones((3, 2), np.uint8), np.ones((3, 1, 4), np.float32)])
    more = replace(more, tables=[None, None], weights=np.ones(3, np.float32))
    (first, second), labels, weights = feeding.endless(more, 2, None).element_spec
    assert [(s.shape.as_list(), s.dtype.name) for s in (first, second, labels, weights)] == [
        ([None, 2], "uint8"),
        ([None, 1, 4], "float32"),
        ([None], "float32"),
        ([None], "float32"),
    ]


def numbered(rows):
    return replace(rows, labels=np.arange(len(rows.place), dtype=np.float32))


@pytest.mark.parametrize("name", ["tf", "caffe", "torch"])
def test_levels_become_what_keras_preprocess_input_makes(name):
    spec = {"dtype": "uint8", "shape": [2, 2, 3], "channelOrder": "RGB", "normalization": name}
    levels = np.random.default_rng(1).integers(0, 256, (2, 2, 2, 3)).astype(np.uint8)
    preprocess = keras.applications.imagenet_utils.preprocess_input
    theirs = preprocess(levels.astype(np.float32), mode=name)
    if name == "caffe":
        spec["channelOrder"] = "BGR"
        levels = levels[..., ::-1]
    np.testing.assert_allclose(feeding._floats(levels, feeding._table(spec)), theirs, atol=1e-5)
