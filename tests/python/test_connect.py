"""What holds under Spark Connect alone: no jar, no JVM in the client, the network shipped once."""

import os

import pytest

from pictures import encoded, picture
from sessions import jar_answers
from sparkdl import DeepImageFeaturizer

pytestmark = pytest.mark.skipif(
    os.environ.get("SPARKDL_TEST_FACE") != "connect", reason="about Spark Connect: SPARKDL_TEST_FACE=connect"
)


@pytest.fixture
def frame(spark):
    return spark.createDataFrame([(encoded(picture(seed)),) for seed in range(4)], "picture binary")


def test_the_jar_is_absent_and_the_client_has_no_spark_context(spark):
    assert not jar_answers(spark)
    assert type(spark).__module__ == "pyspark.sql.connect.session"
    assert not hasattr(spark, "sparkContext")


def test_the_network_is_shipped_once_per_session(spark, frame, tiny, monkeypatch):
    shipped = []
    monkeypatch.setattr(spark, "addArtifacts", lambda *paths, **kind: shipped.extend(paths))
    monkeypatch.setattr("sparkdl._shipping._shipped", {})
    stage = DeepImageFeaturizer(inputCol="picture", outputCol="out", modelName=tiny)
    for _ in range(3):
        stage.transform(frame)
    assert len(shipped) == 1
    assert shipped[0].endswith(".sparkdl")


def test_the_plan_stays_small(spark, frame, tiny):
    stage = DeepImageFeaturizer(inputCol="picture", outputCol="out", modelName=tiny)
    plan = stage.transform(frame)._plan.to_proto(spark.client).ByteSize()
    assert plan - frame._plan.to_proto(spark.client).ByteSize() < 20_000
