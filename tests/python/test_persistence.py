"""Saved stages and pipelines: every face loads what every other saved, where the network's file is gone."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

import saved_by
from pictures import TINY, encoded, picture
from sessions import jar
from sparkdl import (
    DeepImageFeaturizer,
    DeepImagePredictor,
    KerasImageFileTransformer,
    KerasTransformer,
    PipelineLoader,
    SparkDLError,
    SparkDLValueError,
)

LABELS = ["a", "b", "c", "d"]
KERAS_FILES = ("tensors.keras", "scores.keras")


@pytest.fixture(scope="module", params=["jvm", "python", "connect"])
def saved(request, tmp_path_factory):
    """A folder with what a process of another face saved, and what that process computed."""
    if request.param == "jvm" and jar() is None:
        pytest.skip("the JVM face needs the jar: run make build, or set SPARKDL_TEST_JAR")
    # The runs of the three faces may share it: each saves the same.
    shared = os.environ.get("SPARKDL_TEST_SAVED")
    parent = Path(shared) if shared else tmp_path_factory.mktemp("saved")
    parent.mkdir(exist_ok=True)
    folder = parent / request.param
    with (parent / f"{request.param}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "expected.json").exists():
            save(request.param, folder)
    return folder, json.loads((folder / "expected.json").read_text())


def save(face, folder):
    """Saves what `saved_by` saves, in a process of that face, and takes away what it was made from."""
    folder.mkdir()
    bundle = folder / "elsewhere.sparkdl"
    shutil.copy(TINY, bundle)
    keras_files = [Path(shutil.copy(TINY.parents[1] / "keras" / name, folder)) for name in KERAS_FILES]
    # What a session leaves in the environment would lead the process to it.
    sessions = ("SPARKDL_PATH", "SPARK_", "PYSPARK_GATEWAY")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(sessions)}
    here = Path(saved_by.__file__)
    environment |= {
        "SPARKDL_TEST_FACE": face,
        "SPARKDL_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(here.parent), environment.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(here), str(folder), str(bundle)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    bundle.unlink()
    for file in keras_files:
        file.unlink()
    shutil.rmtree(folder / "cache")


@pytest.fixture
def cache(spark, monkeypatch, tmp_path):
    """An empty cache folder, so that a stage has only what it was saved with."""
    monkeypatch.setenv("SPARKDL_CACHE_DIR", str(tmp_path))
    spark.conf.set("spark.sparkdl.cacheDir", str(tmp_path))
    yield tmp_path
    spark.conf.unset("spark.sparkdl.cacheDir")


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame(saved_by.ROWS, saved_by.COLUMNS)


def assert_computes(model, frame, expected):
    rows = model.transform(frame).orderBy("id").collect()
    features = [row["features"].toArray() for row in rows]
    np.testing.assert_allclose(np.stack(features), expected["features"], atol=1e-5)
    assert [row["prediction"] for row in rows] == expected["prediction"]
    if "best" in rows[0]:
        assert [[c["description"] for c in row["best"]] for row in rows] == expected["best"]


def test_a_stage_loads_with_its_uid_its_params_and_its_network(saved, cache, frame):
    folder, expected = saved
    stage = DeepImagePredictor.load(str(folder / "stage"))
    assert stage.uid == expected["uid"]
    assert (stage.getTopK(), stage.getLabels(), stage.getMaxPixels()) == (2, LABELS, 2**40)
    assert stage.getModelName() == str(folder / "elsewhere.sparkdl")
    assert not stage.isSet(stage.batchSize)
    rows = stage.transform(frame).orderBy("id").collect()
    assert [[c["description"] for c in row["best"]] for row in rows] == expected["best"]


def test_a_fitted_pipeline_loads_by_pyspark(saved, cache, frame):
    folder, expected = saved
    assert_computes(PipelineModel.load(str(folder / "model")), frame, expected)


def test_a_fitted_pipeline_loads_by_the_pipeline_loader(saved, cache, frame):
    folder, expected = saved
    model = PipelineLoader.load(str(folder / "model"))
    assert isinstance(model, PipelineModel)
    assert_computes(model, frame, expected)


def test_an_unfitted_pipeline_loads_and_fits(saved, cache, frame):
    folder, expected = saved
    pipeline = PipelineLoader.load(str(folder / "pipeline"))
    assert isinstance(pipeline, Pipeline)
    assert_computes(pipeline.fit(frame), frame, expected)


def test_scala_loads_a_fitted_pipeline(saved, cache, frame, spark, face):
    if face != "jvm":
        pytest.skip("there is no Scala of ours in this session")
    folder, expected = saved
    model = spark._jvm.sparkdl.PipelineLoader.load(str(folder / "model"))
    rows = DataFrame(model.transform(frame._jdf), spark).orderBy("id").collect()
    assert [row["prediction"] for row in rows] == expected["prediction"]
    np.testing.assert_allclose([row["features"].toArray() for row in rows], expected["features"], atol=1e-5)


def test_with_the_jar_a_pipeline_is_saved_in_the_form_that_scala_opens(saved, cache, spark, face):
    folder, _ = saved
    line = spark.read.text(str(folder / "model" / "metadata")).first()[0]
    if folder.name == "jvm":
        assert json.loads(line)["class"] == "org.apache.spark.ml.PipelineModel"
        if face == "jvm":
            spark._jvm.org.apache.spark.ml.PipelineModel.load(str(folder / "model"))
    else:
        assert json.loads(line)["class"] == "pyspark.ml.pipeline.PipelineModel"


def test_the_stages_of_keras_models_load_with_their_params_and_models(saved, cache, spark):
    folder, expected = saved
    rows = KerasTransformer.load(str(folder / "rows"))
    assert rows.getModelFile() == str(folder / "tensors.keras")
    assert (rows.getInputNames(), rows.getOutputCols()) == (["vector", "tokens"], ["score", "steps"])
    assert not rows.isSet(rows.batchSize)
    numbers = spark.createDataFrame(saved_by.NUMBERS, saved_by.NUMBER_COLUMNS)
    np.testing.assert_allclose(saved_by.values(rows, numbers, "score"), expected["rows"], atol=1e-5)
    files = KerasImageFileTransformer.load(str(folder / "files"))
    assert (files.getInputSize(), files.getPreprocessing()) == ([9, 7], "tf")
    pictures = spark.createDataFrame([(0, str(folder / "a.png"))], saved_by.FILE_COLUMNS)
    np.testing.assert_allclose(saved_by.values(files, pictures, "out"), expected["files"], atol=1e-4)


def test_a_pipeline_of_keras_stages_loads(saved, cache, spark):
    folder, expected = saved
    numbers = spark.createDataFrame(saved_by.NUMBERS, saved_by.NUMBER_COLUMNS)
    for load in (PipelineModel.load, PipelineLoader.load):
        model = load(str(folder / "numbers"))
        np.testing.assert_allclose(saved_by.values(model, numbers, "score"), expected["rows"], atol=1e-5)


def test_scala_loads_stages_of_keras_models(saved, cache, spark, face):
    if face != "jvm":
        pytest.skip("there is no Scala of ours in this session")
    folder, expected = saved
    stage = spark._jvm.sparkdl.KerasTransformer.load(str(folder / "rows"))
    numbers = spark.createDataFrame(saved_by.NUMBERS, saved_by.NUMBER_COLUMNS)
    rows = DataFrame(stage.transform(numbers._jdf), spark).orderBy("id").collect()
    np.testing.assert_allclose([row["score"] for row in rows], expected["rows"], atol=1e-5)


def test_another_file_or_size_makes_a_loaded_stage_forget_its_bundle(saved, cache, spark):
    folder, _ = saved
    pictures = spark.createDataFrame([(0, str(folder / "a.png"))], saved_by.FILE_COLUMNS)
    loaded = KerasImageFileTransformer.load(str(folder / "files"))
    assert loaded.copy().setBatchSize(1).transform(pictures).first()["out"] is not None
    with pytest.raises(SparkDLError, match=r"scores\.keras"):
        loaded.copy().setInputSize([8, 7]).transform(pictures)
    with pytest.raises(SparkDLError, match=r"scores\.keras"):
        loaded.setModelFile(str(folder / "scores.keras")).transform(pictures)


def stage(**params):
    return DeepImageFeaturizer(
        **({"inputCol": "picture", "outputCol": "out", "modelName": str(TINY)} | params)
    )


def test_a_saved_stage_has_the_layout_of_the_contract(spark, tmp_path):
    path = str(tmp_path / "stage")
    stage(batchSize=3).save(path)
    metadata = json.loads(spark.read.text(f"{path}/metadata").first()[0])
    assert metadata["class"] == "sparkdl.DeepImageFeaturizer"
    assert metadata["paramMap"] == {
        "inputCol": "picture",
        "outputCol": "out",
        "modelName": str(TINY),
        "batchSize": 3,
    }
    assert metadata["defaultParamMap"]["maxPixels"] == 89478485
    chunks = spark.read.parquet(f"{path}/bundle")
    assert [(f.name, f.dataType.simpleString()) for f in chunks.schema] == [
        ("chunk", "int"),
        ("bytes", "binary"),
    ]
    whole = b"".join(bytes(row["bytes"]) for row in chunks.orderBy("chunk").collect())
    assert whole == TINY.read_bytes()
    assert chunks.select(F.sha2("bytes", 256)).first()[0] == metadata["bundle"]


def test_a_stage_without_a_model_and_one_of_published_weights_carry_no_bundle(spark, tmp_path):
    for name, kept in [
        ("none", DeepImageFeaturizer()),
        ("named", DeepImageFeaturizer(modelName="MobileNet")),
    ]:
        kept.save(str(tmp_path / name))
        assert not (tmp_path / name / "bundle").exists()
        assert DeepImageFeaturizer.load(str(tmp_path / name)).uid == kept.uid


def test_an_existing_folder_is_overwritten_only_when_asked(spark, tmp_path):
    path = str(tmp_path / "stage")
    stage(batchSize=1).save(path)
    with pytest.raises((PySparkException, Py4JJavaError, OSError), match="already exists"):
        stage(batchSize=2).save(path)
    assert DeepImageFeaturizer.load(path).getBatchSize() == 1
    stage(batchSize=2).write().overwrite().save(path)
    assert DeepImageFeaturizer.load(path).getBatchSize() == 2


def test_a_stage_of_another_class_is_refused(spark, tmp_path):
    stage().save(str(tmp_path / "stage"))
    with pytest.raises(
        SparkDLValueError, match=r"holds a sparkdl\.DeepImageFeaturizer, not a sparkdl\.DeepImageP"
    ):
        DeepImagePredictor.load(str(tmp_path / "stage"))


def test_another_model_makes_a_loaded_stage_forget_its_bundle(spark, cache, tmp_path):
    copy = tmp_path / "copy.sparkdl"
    shutil.copy(TINY, copy)
    stage(modelName=str(copy)).save(str(tmp_path / "stage"))
    copy.unlink()
    frame = spark.createDataFrame([(encoded(picture(1)),)], "picture binary")
    loaded = DeepImageFeaturizer.load(str(tmp_path / "stage"))
    assert loaded.copy().transform(frame).first()["out"] is not None
    with pytest.raises(SparkDLError, match=r"copy\.sparkdl"):
        loaded.setModelName(str(copy)).transform(frame)


def test_a_damaged_bundle_is_refused(spark, cache, tmp_path):
    path = tmp_path / "stage"
    stage().save(str(path))
    shutil.rmtree(cache / "stages")
    rows = spark.createDataFrame([(0, b"something else")], "chunk int, bytes binary")
    rows.write.mode("overwrite").parquet(str(path / "bundle"))
    with pytest.raises(SparkDLValueError, match="is damaged: its SHA-256 is") as caught:
        DeepImageFeaturizer.load(str(path))
    assert caught.value.kind == "InvalidModel"
