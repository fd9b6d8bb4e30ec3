"""Sessions of the three faces, for the tests and for the processes they start."""

import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TWIN = "sparkdl.DeepImageFeaturizer"
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Flags of a JVM that runs many small jobs: compiling what is hot once more takes longer than it saves."""


def jar() -> str | None:
    """The built jar, if there is one."""
    named = [os.environ["SPARKDL_TEST_JAR"]] if os.environ.get("SPARKDL_TEST_JAR") else []
    found = [*named, *map(str, sorted((ROOT / "dist").glob("spark-deep-learning_*.jar")))]
    return next((path for path in found if Path(path).exists()), None)


def open_session(face: str, warehouse: Path) -> Any:
    """A session of this face, on two cores of this machine."""
    if face == "python":
        os.environ["SPARKDL_PATH"] = "python"
    if face == "connect":
        os.environ["SPARK_TESTING"] = "1"  # a port of its own for each server, not 15002 for all
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder
    options = {
        "spark.driver.extraJavaOptions": SHORT_LIVED,
        "spark.ui.enabled": "false",
        # The worker of a killed task may be closed just after it was given back, and be given to the next
        # (SPARK-54217). After two seconds, as is the default, that happens where the processors are busy.
        "spark.python.task.killTimeout": "20s",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(warehouse),
    }
    if face == "jvm":
        options["spark.jars"] = jar()
    for key, value in options.items():
        builder = builder.config(key, value)
    return (builder.remote("local[2]") if face == "connect" else builder.master("local[2]")).getOrCreate()


def jar_answers(session: Any) -> bool:
    """Whether the JVM behind this session can load our Scala stage."""
    try:
        session.sql(f"SELECT java_method('{TWIN}', 'supportedModels')").collect()
    except Exception as error:
        if TWIN not in str(error):
            raise
        return False
    return True
