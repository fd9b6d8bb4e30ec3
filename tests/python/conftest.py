"""One session per run, of the face that `SPARKDL_TEST_FACE` names: the same tests run against all three.

`python`: classic PySpark without our jar; `jvm`: classic with it (`SPARKDL_TEST_JAR`); `connect`: Spark
Connect, where the jar is asserted to be absent.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pictures import TINY
from sessions import ROOT, jar, jar_answers, open_session

FACE = os.environ.get("SPARKDL_TEST_FACE", "python")
# Without oneDNN, which TensorFlow leaves off on some processors, Keras itself cannot run some of the layers
# that ours are compared with (dilated transposed convolutions, channels first).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@pytest.fixture(scope="session")
def face() -> str:
    return FACE


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if FACE == "jvm" and jar() is None:
        pytest.skip("the JVM face needs the jar: run make build, or set SPARKDL_TEST_JAR")
    os.environ.setdefault("SPARKDL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    session = open_session(FACE, tmp_path_factory.mktemp("warehouse"))
    assert jar_answers(session) == (FACE == "jvm")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def tiny() -> str:
    return str(TINY)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs and weights, which a user's checkout does not have."""
    folder = Path(os.environ.get("SPARKDL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real photographs and weights are not at {folder}: set SPARKDL_TEST_DATA")
    return folder


@pytest.fixture
def runs_no_job(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails the test if it started a Spark job."""
    if FACE == "connect":
        calls: list[Any] = []
        for name in ("_execute", "_execute_and_fetch_as_iterator"):
            monkeypatch.setattr(spark.client, name, _counted(getattr(spark.client, name), calls))
        yield
        assert calls == []
        return
    context = spark.sparkContext
    context.setJobGroup("runs-no-job", "counted")
    yield
    assert list(context.statusTracker().getJobIdsForGroup("runs-no-job")) == []
    context.setLocalProperty("spark.jobGroup.id", None)


def _counted(call: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return call(*arguments, **options)

    return counted
