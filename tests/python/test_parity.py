"""One stage, two paths: the Scala twin and the Python stage agree in params, results and words."""

import os

import numpy as np
import pytest
from pyspark.sql import DataFrame

from pictures import encoded, huge_header, picture
from sparkdl import DeepImageFeaturizer, DeepImagePredictor, SparkDLError, _engine
from sparkdl.image import imageIO

pytestmark = pytest.mark.skipif(
    os.environ.get("SPARKDL_TEST_FACE") != "jvm",
    reason="compares with the Scala stages: SPARKDL_TEST_FACE=jvm",
)
STAGES = pytest.mark.parametrize(
    "kind", [DeepImageFeaturizer, DeepImagePredictor], ids=lambda kind: kind.__name__
)


@pytest.fixture
def on_python(monkeypatch):
    """Makes stages of the Python path in a session that has the jar."""

    def make(kind, **params):
        with monkeypatch.context() as patch:
            patch.setenv("SPARKDL_PATH", "python")
            return kind(**params)

    return make


def python_value(value):
    return value if isinstance(value, (str, int, float, bool)) else list(value)


@STAGES
def test_params_have_the_same_names_docs_and_defaults(spark, on_python, kind):
    scala = getattr(spark._jvm.sparkdl, kind.__name__)()
    stage = on_python(kind)
    assert [p.name for p in stage.params] == sorted(p.name() for p in scala.params())
    for param in stage.params:
        twin = scala.getParam(param.name)
        assert param.doc.rstrip(".") == twin.doc().rstrip(".")  # Spark's own two differ by a full stop
        assert stage.hasDefault(param) == scala.hasDefault(twin)
        if stage.hasDefault(param) and param.name != "outputCol":
            assert stage.getOrDefault(param) == python_value(scala.getOrDefault(twin))


def test_the_kinds_of_error_are_the_same(spark):
    kinds = spark._jvm.sparkdl.ffi.ErrorKind.values()
    found = [(kind.name(), (kind.condition(), kind.sqlState())) for kind in kinds]
    assert found == list(_engine.error_kinds().items())


def test_the_stages_run_on_the_jvm_here(spark, tiny):
    from pyspark.ml.util import JavaMLWritable

    stage = DeepImageFeaturizer(modelName=tiny)
    assert isinstance(stage, JavaMLWritable)
    assert type(stage).__name__ == "DeepImageFeaturizer"
    assert type(stage).__module__ == "sparkdl"


ROWS = [(seed, encoded(picture(seed, 40 + 7 * seed, 90 - 5 * seed), "JPEG")) for seed in range(8)]
BAD = [(8, None), (9, b"text"), (10, ROWS[0][1][:200]), (11, huge_header()), (12, b"")]


@pytest.mark.parametrize("hint", ["SCALE_AREA_AVERAGING", "SCALE_BICUBIC", "SCALE_TF_BILINEAR"])
@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_both_paths_give_the_same_features(spark, on_python, tiny, hint, mode):
    frame = spark.createDataFrame(ROWS, "id int, picture binary")
    params = {
        "inputCol": "picture",
        "outputCol": "out",
        "modelName": tiny,
        "scaleHint": hint,
        "resizeMode": mode,
    }
    found = [
        [row["out"].toArray() for row in stage.transform(frame).orderBy("id").collect()]
        for stage in (DeepImageFeaturizer(**params), on_python(DeepImageFeaturizer, **params))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_both_paths_give_the_same_reasons_and_schema(spark, on_python, tiny):
    frame = spark.createDataFrame(ROWS + BAD, "id int, picture binary")
    params = {"inputCol": "picture", "outputCol": "out", "modelName": tiny, "errorCol": "why"}
    jvm = DeepImageFeaturizer(**params).transform(frame)
    python = on_python(DeepImageFeaturizer, **params).transform(frame)
    assert jvm.schema == python.schema
    assert (
        jvm.select("id", "why").orderBy("id").collect() == python.select("id", "why").orderBy("id").collect()
    )


def test_both_paths_name_the_same_classes(spark, on_python, tiny):
    frame = spark.createDataFrame(ROWS, "id int, picture binary")
    params = {
        "inputCol": "picture",
        "outputCol": "out",
        "modelName": tiny,
        "decodePredictions": True,
        "topK": 2,
    }
    jvm = DeepImagePredictor(**params).transform(frame)
    python = on_python(DeepImagePredictor, **params).transform(frame)
    assert jvm.schema == python.schema
    for one, other in zip(jvm.orderBy("id").collect(), python.orderBy("id").collect(), strict=True):
        assert [c["class"] for c in one["out"]] == [c["class"] for c in other["out"]]


REFUSED = [
    {"inputCol": "image"},
    {"inputCol": "id"},
    {"outputCol": "id"},
    {"errorCol": "picture"},
    {"modelName": "mobilenet"},
    {"weights": "x.keras"},
    {"decodePredictions": True, "labels": ["a"]},
]


@pytest.mark.parametrize("change", REFUSED, ids="-".join)
def test_both_paths_refuse_with_the_same_words_and_kind(spark, on_python, tiny, change):
    frame = spark.createDataFrame(ROWS, "id int, picture binary")
    params = {"inputCol": "picture", "outputCol": "out", "modelName": tiny} | change
    with pytest.raises(SparkDLError) as python:
        on_python(DeepImagePredictor, **params).transform(frame)
    twin = DeepImagePredictor(**params)._to_java()
    from sparkdl.transformers.twin import same_errors

    with pytest.raises(SparkDLError) as jvm, same_errors():
        twin.transform(frame._jdf)
    assert (type(jvm.value), jvm.value.kind, str(jvm.value)) == (
        type(python.value),
        python.value.kind,
        str(python.value),
    )


def test_both_read_the_same_files_into_the_same_rows_and_take_the_same_sample(spark, tmp_path):
    for number in range(40):
        (tmp_path / f"no {number} [é].png").write_bytes(encoded(picture(number)))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    reader = spark._jvm.sparkdl.image
    for ratio, seed in ((1.0, 0), (0.5, 7), (0.5, 2**40)):
        scala_options = reader.ImageReadOptions(False, ratio, seed, False, 0, 89_478_485, False)
        in_scala = reader.ImageIO.readImages(str(tmp_path), scala_options)
        in_python = imageIO.readImages(str(tmp_path), sampleRatio=ratio, seed=seed)
        found = sorted(map(tuple, in_python.select("image.*").collect()))
        assert found == sorted(map(tuple, DataFrame(in_scala, spark).select("image.*").collect()))
        assert len(found) == 41 if ratio == 1.0 else 10 < len(found) < 31
