"""One stage, two paths: the Scala twin and the Python stage agree in params, results and words."""

import hashlib
import os

import numpy as np
import pytest
from pyspark.sql import DataFrame

from pictures import TINY, encoded, huge_header, picture
from sparkdl import (
    DeepImageFeaturizer,
    DeepImagePredictor,
    KerasImageFileModel,
    KerasImageFileTransformer,
    KerasModel,
    KerasTransformer,
    SparkDLError,
    TFImageTransformer,
    TFInputGraph,
    TFTransformer,
    _engine,
)
from sparkdl.image import imageIO
from sparkdl.transformers.twin import java_stage, same_errors

pytestmark = pytest.mark.skipif(
    os.environ.get("SPARKDL_TEST_FACE") != "jvm",
    reason="compares with the Scala stages: SPARKDL_TEST_FACE=jvm",
)
STAGES = pytest.mark.parametrize(
    "kind",
    [
        DeepImageFeaturizer,
        DeepImagePredictor,
        KerasTransformer,
        KerasImageFileTransformer,
        KerasModel,
        KerasImageFileModel,
        TFTransformer,
        TFImageTransformer,
    ],
    ids=lambda kind: kind.__name__,
)
KERAS = TINY.parents[1] / "keras"
GRAPHS = TINY.parents[1] / "graphs"


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
    shared = [param for param in stage.params if param.name != "imageLoader"]
    assert [p.name for p in shared] == sorted(p.name() for p in scala.params())
    for param in shared:
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
    assert_same_refusal(DeepImagePredictor, params, frame, on_python)


def assert_same_refusal(kind, params, frame, on_python):
    with pytest.raises(SparkDLError) as python:
        on_python(kind, **params).transform(frame)
    with pytest.raises(SparkDLError) as jvm, same_errors():
        # The graph of a stage is looked up on the way to the JVM.
        java_stage(kind(**params)).transform(frame._jdf)
    assert (type(jvm.value), jvm.value.kind, str(jvm.value)) == (
        type(python.value),
        python.value.kind,
        str(python.value),
    )


WRONG = "0123456789abcdef" * 4
TENSORS = {
    "inputCols": ["tokens", "vector"],
    "outputCols": ["a", "b", "c"],
    "modelFile": str(KERAS / "tensors.keras"),
}
REFUSED_NUMBERS = [
    {"inputCols": ["tokens", "nothing"]},
    {"inputCols": ["tokens"]},
    {"inputCols": ["vector", "tokens"]},
    {"inputCols": ["tokens", "text"]},
    {"inputCols": ["tokens", "one"]},
    {"inputCols": ["tokens", "deep"]},
    {"inputCol": "tokens"},
    {"outputCol": "x"},
    {"outputCols": ["a"]},
    {"outputCols": ["a", "a", "b"]},
    {"errorCol": "text"},
    {"inputNames": ["tokens", "other"]},
    {"inputNames": ["tokens", "tokens"]},
    {"inputNames": ["tokens"]},
    {"outputNames": ["none", "steps", "score"]},
    {"outputNames": ["steps", "steps", "score"]},
    {"expectedSha256": WRONG},
    {"modelFile": "model.onnx"},
    {"modelFile": str(TINY)},
]


@pytest.fixture
def numbers(spark):
    schema = "id int, tokens array<int>, vector array<float>, text string, one float, deep array<array<int>>"
    rows = [(n, [n, 1, 2, 3], [0.5, -1.0, float(n)], "x", 1.0, [[1]]) for n in range(5)]
    bad = [(5, None, [1.0, 2.0, 3.0]), (6, [1, 2], [1.0, 2.0, 3.0]), (7, [1, 2, 3, 4], [1.0, None, 3.0])]
    return spark.createDataFrame([*rows, *((*row, "y", 1.0, [[2]]) for row in bad)], schema)


@pytest.mark.parametrize("change", REFUSED_NUMBERS, ids=lambda change: "-".join(map(str, change)))
def test_both_paths_refuse_numbers_with_the_same_words(numbers, on_python, change):
    assert_same_refusal(KerasTransformer, TENSORS | change, numbers, on_python)


def test_neither_path_takes_a_transformer_without_inputs(numbers, on_python):
    assert_same_refusal(KerasTransformer, {"modelFile": TENSORS["modelFile"]}, numbers, on_python)
    assert_same_refusal(KerasTransformer, {"inputCol": "tokens"}, numbers, on_python)


@pytest.mark.parametrize("mode", ["array", "vector"])
def test_both_paths_give_the_same_numbers_reasons_and_schema(numbers, on_python, mode):
    params = TENSORS | {"errorCol": "why", "outputMode": mode}
    jvm, python = (
        stage.transform(numbers).select("id", "a", "b", "c", "why")
        for stage in (KerasTransformer(**params), on_python(KerasTransformer, **params))
    )
    assert jvm.schema == python.schema
    for one, other in zip(jvm.orderBy("id").collect(), python.orderBy("id").collect(), strict=True):
        assert one["why"] == other["why"]
        for name in "abc":
            assert (one[name] is None) == (other[name] is None)
            if one[name] is not None:
                np.testing.assert_allclose(np.asarray(one[name]), np.asarray(other[name]), atol=1e-5)


FILES = {
    "inputCol": "uri",
    "outputCol": "out",
    "modelFile": str(KERAS / "scores.keras"),
    "inputSize": [8, 8],
}
REFUSED_FILES = [
    {"inputCol": "nothing"},
    {"inputCol": "id"},
    {"outputCol": "id"},
    {"modelFile": str(KERAS / "tensors.keras")},
    {"modelFile": str(KERAS / "mobilenet.keras")},
    {"channelOrder": "L"},
    {"outputMode": "image"},
    {"modelFile": str(TINY)},
    {"expectedSha256": WRONG},
]


@pytest.fixture
def files(spark, tmp_path):
    (tmp_path / "a b.png").write_bytes(encoded(picture(2)))
    (tmp_path / "text.jpg").write_bytes(b"text")
    (tmp_path / "folder").mkdir()
    names = ["a b.png", "text.jpg", "folder", "missing.png"]
    uris = [*(f"{tmp_path}/{name}" for name in names), (tmp_path / "a b.png").as_uri(), None]
    return spark.createDataFrame(list(enumerate(uris)), "id int, uri string")


@pytest.mark.parametrize("change", REFUSED_FILES, ids=lambda change: "-".join(map(str, change)))
def test_both_paths_refuse_files_with_the_same_words(files, on_python, change):
    assert_same_refusal(KerasImageFileTransformer, FILES | change, files, on_python)


def test_an_open_size_is_asked_for_by_both_paths(files, on_python):
    params = {key: value for key, value in FILES.items() if key != "inputSize"}
    assert_same_refusal(KerasImageFileTransformer, params, files, on_python)


@pytest.mark.parametrize("change", [{}, {"preprocessing": "caffe"}, {"outputMode": "image"}], ids=str)
def test_both_paths_give_the_same_of_files(files, on_python, change):
    params = FILES | {"errorCol": "why"} | change
    if "outputMode" in change:
        params |= {"modelFile": str(KERAS / "painter.keras")}
    jvm, python = (
        stage.transform(files)
        for stage in (KerasImageFileTransformer(**params), on_python(KerasImageFileTransformer, **params))
    )
    assert jvm.schema == python.schema
    for one, other in zip(jvm.orderBy("id").collect(), python.orderBy("id").collect(), strict=True):
        assert one["why"] == other["why"]
        assert (one["out"] is None) == (other["out"] is None)
        if one["out"] is not None and "outputMode" not in change:
            np.testing.assert_allclose(one["out"].toArray(), other["out"].toArray(), atol=1e-4)
        elif one["out"] is not None:
            assert one["out"]["origin"] == other["out"]["origin"] == one["uri"]
            assert (one["out"]["height"], one["out"]["mode"]) == (8, 21)
            numbers = [np.frombuffer(row["out"]["data"], "<f4") for row in (one, other)]
            np.testing.assert_allclose(*numbers, atol=1e-4)


def test_both_paths_take_the_features_of_the_same_layer(spark, on_python):
    frame = spark.createDataFrame(ROWS, "id int, picture binary")
    params = {
        "inputCol": "picture",
        "outputCol": "out",
        "modelName": "MobileNet",
        "weights": str(KERAS / "mobilenet.keras"),
        "featureLayer": "conv_pw_3_relu",
        "expectedSha256": hashlib.sha256((KERAS / "mobilenet.keras").read_bytes()).hexdigest(),
    }
    found = [
        [row["out"].toArray() for row in stage.transform(frame).orderBy("id").collect()]
        for stage in (DeepImageFeaturizer(**params), on_python(DeepImageFeaturizer, **params))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert_same_refusal(DeepImageFeaturizer, params | {"expectedSha256": WRONG}, frame, on_python)
    other = {"modelName": str(TINY), "weights": "imagenet", "featureLayer": "x"}
    without = {key: value for key, value in params.items() if key != "expectedSha256"}
    assert_same_refusal(DeepImageFeaturizer, without | other, frame, on_python)


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


GRAPH = {"inputMapping": {"x": "a", "y": "b:0"}, "outputMapping": {"total": "sum", "both": "mixed"}}
REFUSED_COLUMNS = [
    {"inputMapping": {"x": "aa", "y": "b"}},
    {"inputMapping": {"x": "a"}},
    {"inputMapping": {"x": "a", "z": "a:0", "y": "b"}},
    {"inputMapping": {"q": "a", "y": "b"}},
    {"inputMapping": {"z": "a", "y": "b"}},
    {"inputMapping": {"id": "a", "y": "b"}},
    {"inputMapping": {"text": "a", "y": "b"}, "castInputs": True},
    {"outputMapping": {"tota": "sum"}},
    {"outputMapping": {"total": "id"}},
    {"expectedSha256": WRONG},
    {"tfInputGraph": "graph.pb"},
    {"tfInputGraph": str(TINY)},
]


@pytest.fixture
def graph(spark):
    outputs = ["total", "tripled", "both"]
    return TFInputGraph.fromGraphDef(str(GRAPHS / "several.pb"), ["a", "b"], outputs)


@pytest.fixture
def columns(spark):
    rows = [(n, [n / 2, 1.0, -2.0], [[n, 1, 2], [3, 4, 5]], [1.0, 2.0, 3.0], "text") for n in range(5)]
    bad = [(5, None, [[1, 2, 3]], [1.0], "a"), (6, [1.0, 2.0, 3.0], [[1, 2, 3], [1]], [1.0], "b")]
    schema = "id int, x array<float>, y array<array<bigint>>, z array<double>, text string"
    return spark.createDataFrame(rows + bad, schema)


@pytest.mark.parametrize("change", REFUSED_COLUMNS, ids=lambda change: "-".join(map(str, change)))
def test_both_paths_refuse_columns_of_graphs_with_the_same_words(columns, graph, on_python, change):
    assert_same_refusal(TFTransformer, GRAPH | {"tfInputGraph": graph} | change, columns, on_python)


@pytest.mark.parametrize("mode", ["array", "vector"])
def test_both_paths_give_the_same_columns_of_graphs(columns, graph, on_python, mode):
    params = GRAPH | {"tfInputGraph": graph, "errorCol": "why", "outputMode": mode}
    stages = (TFTransformer(**params), on_python(TFTransformer, **params))
    jvm, python = (stage.transform(columns).select("id", "sum", "mixed", "why") for stage in stages)
    assert jvm.schema == python.schema
    assert jvm.orderBy("id").collect() == python.orderBy("id").collect()


def edges(**params):
    outputs = ["edges", "means", "brightest", "same"]
    graph = TFInputGraph.fromGraphDef(str(GRAPHS / "pictures.pb"), ["pictures"], outputs)
    return {"inputCol": "picture", "outputCol": "out", "graph": graph, "outputTensor": "edges"} | params


REFUSED_PICTURES = [
    {"inputCol": "id"},
    {"outputTensor": "edge"},
    {"inputTensor": "picture"},
    {"outputMapping": {"edges": "e"}},
    {"channelOrder": "L"},
    {"outputTensor": "means", "outputMode": "image"},
    {"graph": "graph.pb"},
    {"graph": str(TINY)},
    {"expectedSha256": WRONG},
]


@pytest.mark.parametrize("change", REFUSED_PICTURES, ids=lambda change: "-".join(map(str, change)))
def test_both_paths_refuse_pictures_of_graphs_with_the_same_words(spark, on_python, change):
    frame = spark.createDataFrame(ROWS, "id int, picture binary")
    assert_same_refusal(TFImageTransformer, edges(**change), frame, on_python)


@pytest.mark.parametrize("mode", ["array", "vector", "image"])
def test_both_paths_give_the_same_pictures_and_reasons(spark, on_python, mode):
    frame = spark.createDataFrame(ROWS + BAD, "id int, picture binary")
    params = edges(outputMode=mode, errorCol="why", inputSize=[12, 9])
    stages = (TFImageTransformer(**params), on_python(TFImageTransformer, **params))
    jvm, python = (stage.transform(frame).select("id", "out", "why") for stage in stages)
    assert jvm.schema == python.schema
    assert jvm.orderBy("id").collect() == python.orderBy("id").collect()
