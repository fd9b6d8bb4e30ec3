"""Params: getters, setters, defaults, checks; and what is refused before any job."""

import pytest

from pictures import encoded, picture
from sparkdl import (
    DeepImageFeaturizer,
    DeepImagePredictor,
    KerasImageFileTransformer,
    KerasTransformer,
    SparkDLValueError,
)

ALL = {
    "inputCol": "a",
    "outputCol": "b",
    "outputMode": "array",
    "batchSize": 7,
    "handleInvalid": "skip",
    "errorCol": "c",
    "expectedSha256": "Ab" * 32,
}
OF_PICTURES = {
    "scaleHint": "SCALE_BICUBIC",
    "resizeMode": "crop",
    "maxPixels": 2**40,
    "applyExifOrientation": True,
    "fastDecode": True,
}
NAMED = ALL | OF_PICTURES | {"modelName": "MobileNet", "weights": "x.keras"}
STAGES = {
    DeepImageFeaturizer: NAMED | {"pooling": "max", "featureLayer": "mixed7"},
    DeepImagePredictor: NAMED | {"decodePredictions": True, "topK": 3, "labels": ["x", "y"]},
    KerasTransformer: ALL
    | {
        "modelFile": "x.keras",
        "outputMode": "vector",
        "inputCols": ["d", "e"],
        "outputCols": ["f"],
        "inputNames": ["tokens", "mask"],
        "outputNames": ["scores"],
    },
    KerasImageFileTransformer: ALL
    | OF_PICTURES
    | {
        "modelFile": "gs://bucket/x.h5",
        "outputMode": "image",
        "inputSize": [224, 299],
        "channelOrder": "BGR",
        "preprocessing": "torch",
    },
}
BY_STAGE = pytest.mark.parametrize("kind", STAGES, ids=lambda kind: kind.__name__)


def capital(name):
    return name[0].upper() + name[1:]


@BY_STAGE
def test_every_param_has_a_getter_and_a_setter(spark, kind):
    values = STAGES[kind]
    stage = kind()
    assert {param.name for param in stage.params} - {"imageLoader"} == set(values)
    for name, value in values.items():
        assert getattr(stage, f"set{capital(name)}")(value) is stage
        assert getattr(stage, f"get{capital(name)}")() == value
        assert stage.getParam(name).doc


@BY_STAGE
def test_constructor_and_set_params_take_every_param_by_keyword_alone(spark, kind):
    values = STAGES[kind]
    for stage in (kind(**values), kind().setParams(**values)):
        assert {p.name: v for p, v in stage.extractParamMap().items()} == values
    with pytest.raises(TypeError):
        kind("picture")


@BY_STAGE
def test_set_params_leaves_the_others_alone(spark, kind):
    stage = kind(batchSize=5, errorCol="x").setParams(errorCol="y")
    assert (stage.getBatchSize(), stage.getErrorCol()) == (5, "y")


@BY_STAGE
def test_a_copy_keeps_uid_and_values_and_takes_extra(spark, kind):
    stage = kind(**STAGES[kind])
    copy = stage.copy({stage.batchSize: 9})
    assert (copy.uid, copy.getBatchSize(), stage.getBatchSize()) == (stage.uid, 9, 7)
    values = {p.name: v for p, v in copy.extractParamMap().items()}
    assert values == STAGES[kind] | {"batchSize": 9}
    assert stage.uid.startswith(kind.__name__ + "_")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pooling": "mean"}, 'pooling must be one of "avg", "max", "none" but was "mean".'),
        ({"batchSize": 0}, "batchSize must be at least 1 but was 0."),
        ({"maxPixels": 0}, "maxPixels must be at least 1 but was 0."),
        ({"modelName": ""}, "modelName must not be empty."),
        ({"weights": ""}, "weights must not be empty."),
        ({"errorCol": ""}, "errorCol must not be empty."),
        ({"handleInvalid": "drop"}, 'handleInvalid must be one of "keep", "skip", "error" but was "drop".'),
        ({"outputMode": "image"}, 'outputMode must be one of "vector", "array" but was "image".'),
        ({"resizeMode": "fit"}, 'resizeMode must be one of "stretch", "crop", "pad" but was "fit".'),
        ({"featureLayer": ""}, "featureLayer must not be empty."),
    ],
)
def test_a_value_that_cannot_be_is_refused_when_it_is_set(spark, values, message):
    assert refused_value(DeepImageFeaturizer, values) == message


def refused_value(kind, values):
    with pytest.raises(SparkDLValueError) as caught:
        kind(**values)
    assert caught.value.kind == "InvalidArgument"
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modelFile": ""}, "modelFile must not be empty."),
        (
            {"outputMode": "struct"},
            'outputMode must be one of "vector", "array", "image" but was "struct".',
        ),
        ({"channelOrder": "HSV"}, 'channelOrder must be one of "RGB", "BGR", "L" but was "HSV".'),
        (
            {"preprocessing": "keras"},
            'preprocessing must be one of "none", "tf", "caffe", "torch" but was "keras".',
        ),
        (
            {"inputSize": [224]},
            "inputSize must be two numbers of at least 1, height and width, but was [224].",
        ),
        (
            {"inputSize": [0, 9]},
            "inputSize must be two numbers of at least 1, height and width, but was [0, 9].",
        ),
    ],
)
def test_a_value_that_no_file_model_takes_is_refused_when_it_is_set(spark, values, message):
    assert refused_value(KerasImageFileTransformer, values) == message


def test_rows_of_numbers_come_as_arrays_or_vectors(spark):
    assert refused_value(KerasTransformer, {"outputMode": "image"}) == (
        'outputMode must be one of "array", "vector" but was "image".'
    )
    stage = KerasTransformer()
    assert (stage.getOutputMode(), stage.getBatchSize()) == ("array", 256)
    assert KerasImageFileTransformer().getBatchSize() == 32


def test_a_value_of_another_type_is_sparks_type_error(spark):
    with pytest.raises(TypeError, match='Invalid param value given for param "batchSize"'):
        DeepImageFeaturizer(batchSize="many")


def refusal(stage, frame):
    with pytest.raises(SparkDLValueError) as caught:
        stage.transform(frame)
    assert caught.value.kind == "InvalidArgument"
    return str(caught.value)


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame([(1, "x", encoded(picture(1)))], "id int, name string, picture binary")


def stage(tiny, kind=DeepImageFeaturizer, **params):
    return kind(**({"inputCol": "picture", "outputCol": "out", "modelName": tiny} | params))


def test_a_missing_input_column_is_refused(frame, tiny, runs_no_job):
    found = refusal(stage(tiny, inputCol="image"), frame)
    assert found == "Column image does not exist. Available columns: id, name, picture."


def test_an_input_column_of_another_type_is_refused(frame, tiny, runs_no_job):
    assert refusal(stage(tiny, inputCol="name"), frame) == (
        "Column name must be of type binary or image (struct<origin,height,width,nChannels,mode,data>) "
        "but was actually string."
    )


def test_a_taken_output_column_is_refused(frame, tiny, runs_no_job):
    assert refusal(stage(tiny, outputCol="name"), frame) == "Column name already exists."
    assert refusal(stage(tiny, errorCol="id"), frame) == "Column id already exists."
    assert refusal(stage(tiny, errorCol="out"), frame) == "Column out already exists."


def test_an_input_column_that_stands_twice_is_refused(frame, tiny, runs_no_job):
    found = refusal(stage(tiny), frame.select("picture", "picture"))
    assert found == "Column picture is ambiguous: 2 columns have this name."


def test_an_unknown_model_is_refused_with_the_known_ones(frame, tiny, runs_no_job):
    found = refusal(stage("mobilenet"), frame)
    assert found.startswith("Unknown model mobilenet. Known models: InceptionV3, InceptionResNetV2, ")
    assert found.endswith("; or give the path of a bundle (*.sparkdl).")


def test_a_missing_param_is_asked_for(frame, tiny, runs_no_job):
    found = refusal(DeepImageFeaturizer(), frame)
    assert found == "DeepImageFeaturizer needs the param inputCol: set it first."
    found = refusal(DeepImagePredictor(inputCol="picture"), frame)
    assert found == "DeepImagePredictor needs the param modelName: set it first."


def test_a_bundle_takes_no_other_weights(frame, tiny, runs_no_job):
    found = refusal(stage(tiny, weights="x.keras"), frame)
    assert found.startswith(f"The bundle {tiny} has weights of its own but the param weights is x.keras: ")


def test_labels_must_be_one_per_class(frame, tiny, runs_no_job):
    found = refusal(stage(tiny, DeepImagePredictor, decodePredictions=True, labels=["a", "b"]), frame)
    assert found == "The param labels has 2 names but the model Tiny has 4 classes: give one name per class."


def test_supported_models_are_the_table(spark):
    assert "MobileNetV2" in DeepImageFeaturizer.supportedModels()
