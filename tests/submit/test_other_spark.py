"""Where a Spark lacks insides that functions of SQL use, what can go on goes on, with one warning each."""

import os
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT, Finished, run

INSIDES = "org/apache/spark/sql/sparkdl/"

PROGRAM = """
import sys
from pyspark.sql import DataFrame, SparkSession

jar, tiny, files = sys.argv[1:]
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
spark = builder.config("spark.jars", jar).config("spark.driver.extraClassPath", jar).getOrCreate()
print("SPARK", spark.version)
spark.read.format("binaryFile").load(files).createOrReplaceTempView("files")
photos = spark.table("files")


def attempt(name, what):
    try:
        print(name, what())
    except Exception as error:
        print(name, "REFUSED", str(error).replace("\\n", " "))


def stage():
    predictor = spark._jvm.sparkdl.DeepImagePredictor().setInputCol("content").setOutputCol("scores")
    predictor = predictor.setModelName(tiny).setOutputMode("array")
    return DataFrame(predictor.transform(photos._jdf), spark).where("size(scores) = 4").count()


def query(text):
    return lambda: spark.sql(text).count()


attempt("STAGE", stage)
attempt("AGAIN", stage)
attempt("PREDICT", query(f"SELECT * FROM files WHERE size(dl_predict('{tiny}', content)) = 4"))
attempt("INFO", query("SELECT * FROM files WHERE decode_image(content).width = image_info(content).width"))
arguments = spark._jsparkSession, "f", tiny, spark._jvm.java.util.HashMap()
attempt("REGISTER", lambda: spark._jvm.sparkdl.sql.ModelFunctions.register(*arguments))
attempt("REGISTERED", query("SELECT * FROM files WHERE size(f(content)) = 4"))
attempt("PLAN", lambda: "Model Tiny" in str(spark.sql("SELECT f(content) FROM files")._jdf.queryExecution()))
"""


def answers(jar: Path, folder: Path, env: dict[str, str]) -> tuple[dict[str, str], str]:
    """What each attempt gave, and all that was said."""
    script = folder / "program.py"
    script.write_text(PROGRAM)
    tiny = ROOT / "tests/fixtures/bundles/tiny.sparkdl"
    files = ROOT / "tests/fixtures/pictures/rgb*.png"
    done: Finished = run([sys.executable, script, jar, tiny, files], folder, env)
    assert done.code == 0, done.output
    lines = [line.split(" ", 1) for line in done.output.splitlines() if " " in line]
    return {name: rest for name, rest in lines if name.isupper()}, done.output


def without(jar: Path, folder: Path, lost: str) -> Path:
    """The jar less the classes whose path begins so."""
    less = folder / "less.jar"
    with zipfile.ZipFile(jar) as whole, zipfile.ZipFile(less, "w") as part:
        kept = [name for name in whole.namelist() if not name.startswith(lost)]
        assert len(kept) < len(whole.namelist())
        for name in kept:
            part.writestr(name, whole.read(name))
    return less


def test_functions_run_row_by_row_where_rows_cannot_be_gathered(
    jar: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    less = without(jar, tmp_path, f"{INSIDES}InternalRows")
    found, output = answers(less, tmp_path, clean_env)
    wanted = dict.fromkeys(("STAGE", "AGAIN", "PREDICT", "INFO", "REGISTERED"), found["STAGE"])
    assert found["STAGE"] > "3", output
    assert wanted.items() <= found.items(), output
    assert (found["REGISTER"], found["PLAN"]) == ("None", "False"), output
    assert output.count("Functions of models run row by row, since Spark") == 1, output
    assert output.count("Rows are converted one by one, since Spark") == 1, output


def test_stages_go_on_where_no_function_can_be(jar: Path, tmp_path: Path, clean_env: dict[str, str]) -> None:
    found, output = answers(without(jar, tmp_path, INSIDES), tmp_path, clean_env)
    assert found["STAGE"] == found["AGAIN"] > "3", output
    assert found["PREDICT"].startswith("REFUSED"), output
    assert "use the stage that does the same" in found["REGISTER"], output
    assert output.count("dl_predict and the other functions of SQL are missing, since Spark") == 1, output
    assert output.count("Rows are converted one by one, since Spark") == 1, output


@pytest.mark.parametrize("spark", os.environ.get("SPARKDL_TEST_SPARKS", "none").split())
def test_all_goes_as_ever_on_other_versions(
    spark: str, jar: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    if spark == "none":
        pytest.skip("other versions of Spark are large: make sparks fetches and tries them")
    folder = Path(os.environ["SPARKDL_TEST_SPARKS_FOLDER"]) / spark
    env = clean_env | {"PYTHONPATH": str(folder), "SPARK_HOME": str(folder / "pyspark")}
    found, output = answers(jar, tmp_path, env)
    assert found["SPARK"] == spark
    wanted = dict.fromkeys(("STAGE", "AGAIN", "PREDICT", "INFO", "REGISTERED"), found["STAGE"])
    assert found["STAGE"] > "3", output
    assert wanted.items() <= found.items(), output
    assert (found["REGISTER"], found["PLAN"]) == ("None", "True"), output
    assert "other insides" not in output, output
