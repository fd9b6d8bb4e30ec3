"""What goes wrong with TensorFlow or the cache folder ends in one error that says what to do."""

import platform
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from .conftest import Finished, run

TRANSFORM = """
new sparkdl.DeepImageFeaturizer().setInputCol("content").setOutputCol("features").setModelName("BUNDLE")
  .transform(spark.read.format("binaryFile").load("photos/*/*.jpg")).select("features").collect()
println("TRANSFORMED")
"""

LOAD = """
import sys
import tensorflow
from sparkdl import SparkDLError, _native

options = [("tensorflowPath", sys.argv[1]), ("tensorflowClasspath", ""), ("python", sys.executable)]
try:
    _native.load_tensorflow(options)
except SparkDLError as error:
    print(error.kind, error.getCondition(), error)
"""


@pytest.fixture
def second_copy(tmp_path: Path) -> Iterator[Path]:
    """A folder with a copy of this environment's TensorFlow libraries: other files, not links."""
    package = Path(str(metadata.distribution("tensorflow-cpu").locate_file("tensorflow")))
    folder = tmp_path / "second"
    folder.mkdir()
    for library in package.glob("libtensorflow_*.so.2"):
        shutil.copyfile(library, folder / library.name)
    yield folder
    shutil.rmtree(folder)


def test_a_second_copy_in_a_python_process_is_refused_by_name(
    second_copy: Path, tmp_path: Path, wheel_env: dict[str, str]
) -> None:
    output = run([sys.executable, "-c", LOAD, second_copy], tmp_path, wheel_env).output
    assert "TensorFlowUnavailable SPARKDL_TENSORFLOW_UNAVAILABLE This process uses TensorFlow from" in output
    assert f"asks for a second copy, {second_copy}/libtensorflow_cc.so.2." in output
    assert "name the same file, or leave the setting out" in output


def test_a_second_copy_in_the_jvm_is_refused_by_name(
    second_copy: Path, spark_shell: Callable[..., Finished], photos: Path, jar: Path, tiny: Path
) -> None:
    loads = [f'System.load("{second_copy}/libtensorflow_{part}.so.2")' for part in ("framework", "cc")]
    package = metadata.distribution("tensorflow-cpu").locate_file("tensorflow")
    done = spark_shell(
        "\n".join([*loads, TRANSFORM.replace("BUNDLE", str(tiny))]),
        "--jars",
        str(jar),
        "--conf",
        f"spark.sparkdl.tensorflow.path={package}",
    )
    assert "asks for a second copy" in done.output, done.output
    assert "TRANSFORMED" not in done.output


@pytest.fixture
def tensorflow_jar(tmp_path: Path) -> Iterator[Path]:
    """A jar that holds this environment's TensorFlow libraries where TensorFlow Java's artifact has them."""
    package = Path(str(metadata.distribution("tensorflow-cpu").locate_file("tensorflow")))
    file = tmp_path / "tensorflow-native.jar"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as jar:
        for library in package.glob("libtensorflow_*.so.2"):
            jar.write(library, f"org/tensorflow/internal/c_api/linux-{platform.machine()}/{library.name}")
    yield file
    file.unlink()


def test_tensorflow_on_the_class_path_is_unpacked_once_and_used_without_a_python(
    spark_shell: Callable[..., Finished],
    tensorflow_jar: Path,
    photos: Path,
    tmp_path: Path,
    jar: Path,
    tiny: Path,
) -> None:
    lines = TRANSFORM.replace("BUNDLE", str(tiny))
    for _ in range(2):
        done = spark_shell(lines, "--jars", f"{jar},{tensorflow_jar}", SPARKDL_PYTHON="/none/python")
        assert "TRANSFORMED" in done.output, done.output
        folders = [path for path in (tmp_path / "cache/tensorflow").iterdir() if path.is_dir()]
        assert len(folders) == 1
        assert sorted(path.name for path in folders[0].iterdir()) == [
            "libtensorflow_cc.so.2",
            "libtensorflow_framework.so.2",
        ]
    shutil.rmtree(tmp_path / "cache")


def test_without_tensorflow_the_jvm_names_every_place_and_the_mend(
    spark_shell: Callable[..., Finished],
    fresh_venv: Callable[[list[str]], Path],
    photos: Path,
    jar: Path,
    tiny: Path,
) -> None:
    lines = TRANSFORM.replace("BUNDLE", str(tiny))
    done = spark_shell(lines, "--jars", str(jar), SPARKDL_PYTHON=str(fresh_venv([])))
    assert "TensorFlow was not found. Looked at:" in done.output, done.output
    assert "class path: no jar with TensorFlow's libraries" in done.output
    assert "no package tensorflow or tensorflow-cpu" in done.output
    assert "pip install tensorflow-cpu" in done.output
    assert "TRANSFORMED" not in done.output


def test_a_cache_folder_that_cannot_be_used_is_named_with_the_setting_that_moves_it(
    spark_shell: Callable[..., Finished], photos: Path, tmp_path: Path, jar: Path, tiny: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    lines = TRANSFORM.replace("BUNDLE", str(tiny))
    done = spark_shell(lines, "--jars", str(jar), SPARKDL_CACHE_DIR=str(in_the_way / "cache"))
    assert str(in_the_way / "cache") in done.output, done.output
    assert "spark.sparkdl.cacheDir" in done.output, done.output
    assert "TRANSFORMED" not in done.output
