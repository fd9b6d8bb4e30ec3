"""expectedSha256: another file is refused on the driver, before it is read as a model."""

import hashlib
import shutil
from pathlib import Path

import pytest

import keras_models
from pictures import TINY, encoded, picture
from sparkdl import (
    DeepImageFeaturizer,
    DeepImagePredictor,
    KerasImageFileTransformer,
    KerasTransformer,
    SparkDLValueError,
)

keras = pytest.importorskip("keras")

MOBILENET = TINY.parents[1] / "keras" / "mobilenet.keras"
WRONG = "0123456789ABCDEFabcdef" + "0" * 42


@pytest.fixture(scope="module")
def frame(spark, tmp_path_factory):
    file = tmp_path_factory.mktemp("pictures") / "a.png"
    file.write_bytes(encoded(picture(1, 16, 12)))
    schema = "numbers array<float>, uri string, picture binary"
    return spark.createDataFrame([([1.0, 2.0, 3.0], str(file), file.read_bytes())], schema)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Stages and the files of their models."""
    folder = tmp_path_factory.mktemp("models")
    dense = keras_models.saved(keras_models.dense(), folder, "dense.keras")
    eye = keras_models.saved(keras_models.pictures(), folder, "eye.h5")
    named = {"inputCol": "picture", "outputCol": "out"}
    return {
        "rows": (KerasTransformer(inputCol="numbers", outputCol="out", modelFile=dense), dense),
        "files": (KerasImageFileTransformer(inputCol="uri", outputCol="out", modelFile=eye), eye),
        "bundle": (DeepImageFeaturizer(modelName=str(TINY), **named), str(TINY)),
        "weights": (
            DeepImagePredictor(modelName="MobileNet", weights=str(MOBILENET), **named),
            str(MOBILENET),
        ),
    }


def sha256(file):
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


NAMES = pytest.mark.parametrize("name", ["rows", "files", "bundle", "weights"])


@NAMES
def test_the_right_file_runs_whatever_the_case_of_the_digits(frame, stages, name):
    stage, file = stages[name]
    for digest in (sha256(file), sha256(file).upper()):
        result = stage.copy({stage.expectedSha256: digest}).transform(frame)
        assert result.select("out").first()["out"] is not None


@NAMES
def test_another_file_is_refused_before_any_job(frame, stages, name, runs_no_job):
    stage, file = stages[name]
    with pytest.raises(SparkDLValueError) as caught:
        stage.copy({stage.expectedSha256: WRONG}).transform(frame)
    assert caught.value.kind == "InvalidModel"
    assert str(caught.value) == (
        f"{file} has SHA-256 {sha256(file)}, but expectedSha256 is {WRONG.lower()}: it is another file or "
        "was changed. Give the right file, or change expectedSha256."
    )


def test_a_file_that_is_no_model_is_refused_by_its_hash_first(frame, tmp_path, runs_no_job):
    (tmp_path / "text.keras").write_text("no model")
    stage = KerasTransformer(inputCol="numbers", outputCol="out", modelFile=str(tmp_path / "text.keras"))
    with pytest.raises(SparkDLValueError, match=r"text\.keras has SHA-256 "):
        stage.setExpectedSha256(WRONG).transform(frame)


def test_published_weights_are_checked_anyway(frame, runs_no_job):
    stage = DeepImageFeaturizer(inputCol="picture", outputCol="out", modelName="MobileNet")
    with pytest.raises(SparkDLValueError) as caught:
        stage.setExpectedSha256(WRONG).transform(frame)
    assert str(caught.value) == (
        "The published weights of MobileNet are checked anyway: leave expectedSha256 unset, or name a file "
        "by weights."
    )


@pytest.mark.parametrize("value", ["", "abc", "g" * 64, "0" * 63, "0" * 65])
def test_what_is_no_hash_is_refused_by_the_setter(spark, value):
    for kind in (DeepImageFeaturizer, DeepImagePredictor, KerasTransformer, KerasImageFileTransformer):
        with pytest.raises(SparkDLValueError) as caught:
            kind().setExpectedSha256(value)
        assert str(caught.value) == f'expectedSha256 must be 64 hex digits but was "{value}".'


def test_a_loaded_stage_runs_without_the_file_until_another_hash_is_asked(frame, stages, tmp_path):
    stage, file = stages["rows"]
    copy = tmp_path / "copy.keras"
    shutil.copy(file, copy)
    saved = stage.copy({stage.modelFile: str(copy), stage.expectedSha256: sha256(file)})
    saved.save(str(tmp_path / "stage"))
    copy.unlink()
    loaded = KerasTransformer.load(str(tmp_path / "stage"))
    assert loaded.getExpectedSha256() == sha256(file)
    assert loaded.transform(frame).first()["out"] is not None
    with pytest.raises(SparkDLValueError.__mro__[1], match=r"copy\.keras"):
        loaded.setExpectedSha256(WRONG).transform(frame)
