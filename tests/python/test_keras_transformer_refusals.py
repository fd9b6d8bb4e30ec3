"""What KerasTransformer refuses on the driver, before any job, and in which words."""

import json

import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructType

import keras_models
import sparkdl
from pictures import TINY
from sparkdl import KerasTransformer, SparkDLError, SparkDLValueError, _bundles, _engine

keras = pytest.importorskip("keras")

INPUTS = ["tokens", "vector", "grid"]
OUTPUTS = list("abcde")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def several(folder):
    return keras_models.saved(keras_models.several(), folder, "several.keras")


@pytest.fixture(scope="module")
def several_names(several):
    """The model's own name, which Keras counts up, and those of its outputs."""
    fields = json.loads(_engine.describe_bundle(_bundles.resolve_file(several))[0])
    return fields["name"], [output["name"] for output in fields["outputs"]]


@pytest.fixture(scope="module")
def frame(spark):
    floats = ArrayType(FloatType())
    schema = (
        StructType()
        .add("tokens", ArrayType(IntegerType()))
        .add("vector", VectorUDT())
        .add("grid", ArrayType(ArrayType(floats)))
        .add("text", "string")
        .add("broken", floats)
        .add("pairs", ArrayType(floats))
        .add("one", "float")
    )
    tokens, vector, grid = (column[0].tolist() for column in keras_models.rows())
    return spark.createDataFrame([(tokens, Vectors.dense(vector), grid, "x", [1.0], [[1.0]], 1.0)], schema)


def stage(file, **params):
    return KerasTransformer(modelFile=file, **({"inputCols": INPUTS, "outputCols": OUTPUTS} | params))


def refusal(stage, frame, kind="InvalidArgument"):
    with pytest.raises(SparkDLValueError) as caught:
        stage.transform(frame)
    assert caught.value.kind == kind
    return str(caught.value)


def test_params_that_are_missing_or_contradict_are_refused(frame, several, runs_no_job):
    assert refusal(KerasTransformer(), frame) == "KerasTransformer needs the param modelFile: set it first."
    assert refusal(KerasTransformer(modelFile=several), frame) == (
        "KerasTransformer needs the param inputCol or inputCols: set one of them first."
    )
    assert refusal(stage(several, inputCol="text"), frame) == (
        "KerasTransformer takes either inputCol or inputCols, but both are set: clear one of them."
    )
    assert refusal(stage(several, outputCol="text"), frame) == (
        "KerasTransformer takes either outputCol or outputCols, but both are set: clear one of them."
    )


def test_columns_that_are_missing_or_taken_are_refused(frame, several, runs_no_job):
    assert refusal(stage(several, inputCols=["tokens", "x", "grid"]), frame).startswith(
        "Column x does not exist. Available columns: tokens, vector, grid, text, "
    )
    assert refusal(stage(several, outputCols=["a", "b", "a", "d", "e"]), frame) == "Column a already exists."
    assert refusal(stage(several, outputCols=["text", *"bcde"]), frame) == "Column text already exists."
    assert refusal(stage(several, errorCol="c"), frame) == "Column c already exists."


def test_a_column_per_input_and_per_output_is_needed(frame, several, several_names, runs_no_job):
    model, outputs = several_names
    assert refusal(stage(several, inputCols=["tokens"]), frame) == (
        f"The model {model} has 3 inputs (tokens, vector, grid) but inputCols has 1 columns: give one column "
        "per input."
    )
    assert refusal(stage(several, outputCols=["a"]), frame) == (
        f"5 outputs ({', '.join(outputs)}) are asked of the model {model} but outputCols has 1 columns: give "
        "one column per output, or choose by outputNames."
    )


def test_names_must_be_the_models_own_and_stand_once(frame, several, several_names, runs_no_job):
    model, outputs = several_names
    assert refusal(stage(several, inputNames=["tokens", "vektor", "grid"]), frame) == (
        f"The model {model} has no input vektor (inputNames); it has tokens, vector, grid."
    )
    assert refusal(stage(several, outputNames=["nothing"]), frame) == (
        f"The model {model} has no output nothing (outputNames); it has {', '.join(outputs)}."
    )
    assert refusal(stage(several, inputNames=["grid", "grid", "tokens"]), frame) == (
        "The param inputNames names grid twice."
    )
    assert refusal(stage(several, outputNames=["scores", "scores"]), frame) == (
        "The param outputNames names scores twice."
    )
    assert refusal(stage(several, inputNames=["grid", "tokens"]), frame) == (
        f"The model {model} has 3 inputs (tokens, vector, grid) but inputNames has 2: name each of them once."
    )


@pytest.mark.parametrize(
    ("columns", "found", "takes", "change"),
    [
        (
            ["broken", "vector", "grid"],
            "Column broken is of type array<float>, but the input tokens",
            "[5] and type int32",
            "cast the column to whole numbers first",
        ),
        (
            ["vector", "vector", "grid"],
            "Column vector is of type vector, but the input tokens",
            "[5] and type int32",
            "cast the column to whole numbers first",
        ),
        (
            ["tokens", "text", "grid"],
            "Column text is of type string, but the input vector",
            "[3] and type float32",
            "give a column of numbers, of arrays of numbers, or of vectors",
        ),
        (
            ["tokens", "one", "grid"],
            "Column one is of type float, but the input vector",
            "[3] and type float32",
            "give an array of numbers",
        ),
        (
            ["tokens", "pairs", "grid"],
            "Column pairs is of type array<array<float>>, but the input vector",
            "[3] and type float32",
            "give an array of numbers",
        ),
        (
            ["tokens", "vector", "pairs"],
            "Column pairs is of type array<array<float>>, but the input grid",
            "[4, 3, 2] and type float32",
            "give arrays nested 3 deep, or one flat array",
        ),
    ],
    ids=["floats", "vector", "text", "plain", "too deep", "not deep enough"],
)
def test_a_column_of_a_wrong_type_is_refused(
    frame, several, several_names, columns, found, takes, change, runs_no_job
):
    message = f"{found} of the model {several_names[0]} takes numbers of shape {takes}: {change}."
    assert refusal(stage(several, inputCols=columns), frame) == message


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_in_a_file_is_refused_by_name(frame, folder, suffix, runs_no_job):
    given = keras.Input((3,), name="vector")
    file = keras_models.saved(
        keras.Model(given, keras.layers.Lambda(lambda x: x * 2, name="twice")(given)),
        folder,
        f"code.{suffix}",
    )
    found = refusal(stage(file, inputCols=["vector"], outputCols=["a"]), frame, "InvalidModel")
    assert "twice" in found
    assert "Lambda" in found


@pytest.mark.parametrize("module", [__name__, "__main__"])
def test_a_custom_layer_in_a_file_is_refused_by_name(frame, folder, module, runs_no_job):
    class Swirl(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        def call(self, x):
            return x * 2

    Swirl.__module__ = module
    given = keras.Input((3,), name="vector")
    file = keras_models.saved(keras.Model(given, Swirl(name="mine")(given)), folder, "custom.keras")
    found = refusal(stage(file, inputCols=["vector"], outputCols=["a"]), frame, "InvalidModel")
    assert "mine" in found
    assert "Swirl" in found


def test_a_file_of_another_kind_is_refused_by_its_name(frame, runs_no_job):
    assert refusal(stage("model.pb"), frame) == (
        "modelFile must be a Keras model (.keras, .h5, .hdf5) or a bundle (*.sparkdl) but was model.pb."
    )


def test_what_is_no_model_or_not_there_is_refused(frame, folder, runs_no_job):
    (folder / "text.keras").write_text("no model")
    found = refusal(stage(str(folder / "text.keras")), frame, "InvalidModel")
    assert "text.keras" in found
    with pytest.raises(SparkDLError, match=r"missing\.keras"):
        stage(str(folder / "missing.keras")).transform(frame)
    whole = (folder / "several.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    assert "cut.keras" in refusal(stage(str(folder / "cut.keras")), frame, "InvalidModel")


def test_weights_alone_are_refused(frame, folder, runs_no_job):
    keras_models.several().save_weights(folder / "alone.weights.h5")
    found = refusal(stage(str(folder / "alone.weights.h5")), frame, "InvalidArgument")
    assert "holds weights alone" in found


def test_each_kind_of_bundle_is_for_its_own_stages(frame, folder, runs_no_job):
    found = refusal(stage(str(TINY)), frame)
    assert found == (
        f"KerasTransformer takes models on tensors, but {TINY} is a bundle for pictures: use it as modelName "
        "of DeepImageFeaturizer or DeepImagePredictor."
    )
    bundle = str(sparkdl.export(keras_models.dense(), folder / "dense.sparkdl"))
    featurizer = sparkdl.DeepImageFeaturizer(inputCol="picture", outputCol="out", modelName=bundle)
    pictures = frame.selectExpr("cast(text as binary) as picture")
    assert refusal(featurizer, pictures) == (
        f"DeepImageFeaturizer takes networks for pictures, but {bundle} is a model on tensors: use it as "
        "modelFile of KerasTransformer or KerasImageFileTransformer."
    )
