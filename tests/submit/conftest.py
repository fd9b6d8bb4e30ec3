"""What the submit tests share: the built jar and wheel, Spark's launchers, fresh virtual environments."""

import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from sessions import SHORT_LIVED

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
TIMEOUT = 1200

PROCESS = """
val maps = scala.io.Source.fromFile("/proc/self/maps").mkString
println("LIBPYTHON " + maps.contains("libpython"))
val children = ProcessHandle.current.descendants.map[String](_.info.command.orElse("")).toArray.mkString(" ")
println("PYTHON PROCESS " + children.contains("python"))
println("TENSORFLOW " + maps.contains("libtensorflow_cc"))
"""
"""Scala lines that say what the process holds."""


@dataclass(frozen=True)
class Finished:
    """A process that has ended: its exit code and what it said, both streams in one."""

    code: int
    output: str


def run(command: list[str | Path], folder: Path, env: dict[str, str], stdin: str | None = None) -> Finished:
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=env,
        input=stdin or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    return Finished(done.returncode, done.stdout)


@pytest.fixture(scope="session")
def version() -> str:
    found = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="session")
def wheel(version: str) -> Path:
    (found,) = DIST.glob(f"spark_deep_learning-{version}-*.whl")
    return found


@pytest.fixture(scope="session")
def jar(version: str) -> Path:
    found = DIST / f"spark-deep-learning_2.13-{version}.jar"
    assert found.is_file(), "make build first"
    return found


@pytest.fixture(scope="session")
def tiny() -> Path:
    return ROOT / "tests/fixtures/bundles/tiny.sparkdl"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder `photos/<class>/<n>.jpg` of two classes that a colour tells apart."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(11)
    for name, colour in {"poppy": (190, 40, 30), "meadow": (60, 160, 50)}.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(12):
            noise = rng.normal(0, 25, (90 + index, 120, 3))
            Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(folder / f"{index}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def clean_env(tmp_path: Path) -> dict[str, str]:
    """The caller's environment without the built site folder and without settings of ours."""
    dropped = {"PYTHONPATH", "SPARK_HOME", "PYSPARK_DRIVER_PYTHON"}
    env = {k: v for k, v in os.environ.items() if not k.startswith("SPARKDL_") and k not in dropped}
    env["SPARKDL_CACHE_DIR"] = str(tmp_path / "cache")
    env["PYSPARK_PYTHON"] = sys.executable
    # Small jobs: compiling what is hot once more takes longer than it saves.
    env["JAVA_TOOL_OPTIONS"] = SHORT_LIVED
    return env


@pytest.fixture
def wheel_env(clean_env: dict[str, str]) -> dict[str, str]:
    """`clean_env` with the built site folder: the wheel as installed."""
    return clean_env | {"PYTHONPATH": os.environ["SPARKDL_TEST_SITE"]}


@pytest.fixture
def coordinate(version: str) -> list[str]:
    """Options that attach the jar by its coordinate, from the built repository."""
    name = f"sparkdl:spark-deep-learning_2.13:{version}"
    return ["--packages", name, "--repositories", (DIST / "maven").as_uri()]


@pytest.fixture
def spark_shell(tmp_path: Path, clean_env: dict[str, str]) -> Callable[..., Finished]:
    """Runs Scala lines in Spark's own shell: `spark_shell(lines, *options, **environment)`."""

    def shell(lines: str, *options: str, **environment: str) -> Finished:
        script = tmp_path / "script.scala"
        script.write_text(lines + '\nprintln("SCRIPT " + "ENDED")\nSystem.exit(0)\n')
        launcher = Path(sys.executable).parent / "spark-shell"
        conf = ["--conf", "spark.ui.enabled=false", "--conf", f"spark.jars.ivy={tmp_path / 'ivy'}"]
        command = [launcher, "--master", "local[2]", *conf, *options, "-i", script]
        return run(command, tmp_path, clean_env | environment)

    return shell


@pytest.fixture
def path_without_python(tmp_path: Path) -> str:
    """What PATH offers here, less every Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in ("/bin", "/usr/bin"):
        for tool in Path(place).iterdir():
            target = folder / tool.name
            if not tool.name.startswith(("python", "pydoc")) and not target.is_symlink():
                target.symlink_to(tool)
    return str(folder)


@pytest.fixture
def scala_without_python(
    spark_shell: Callable[..., Finished], coordinate: list[str], path_without_python: str
) -> Callable[..., Finished]:
    """`spark_shell` with the coordinate, TensorFlow in a folder that is named, and no Python to be found."""

    def shell(lines: str, **settings: str) -> Finished:
        package = str(metadata.distribution("tensorflow-cpu").locate_file("tensorflow"))
        given = {"tensorflow.path": package, **settings}
        conf = [part for key, value in given.items() for part in ("--conf", f"spark.sparkdl.{key}={value}")]
        environment = {
            "PATH": path_without_python,
            "SPARK_HOME": str(metadata.distribution("pyspark").locate_file("pyspark")),
            "PYSPARK_PYTHON": "/none/python",
        }
        return spark_shell(lines + PROCESS, *coordinate, *conf, **environment)

    return shell


def closure(names: list[str]) -> set[str]:
    """The named distributions of this environment and all that they require here, without extras."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found or not any(metadata.distributions(name=name)):
            continue  # Seen, or needed only to build something, and so not here.
        found.add(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def link_distribution(name: str, site: Path) -> None:
    distribution = metadata.distribution(name)
    for top in {Path(file).parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        target = site / top
        source = Path(str(distribution.locate_file(top)))
        if not target.exists() and source.exists():
            target.symlink_to(source)


@pytest.fixture
def fresh_venv(tmp_path: Path, wheel: Path) -> Callable[[list[str]], Path]:
    """A new virtual environment with the wheel, installed by pip, and the named distributions with their own.

    Those are links into this environment: the same files, without a second download. Gives the interpreter.
    """

    def create(names: list[str]) -> Path:
        folder = tmp_path / "venv"
        venv.create(folder, with_pip=False, symlinks=True)
        (site,) = folder.glob("lib/python3.*/site-packages")
        for name in closure([*names, "numpy", "pyarrow"]):
            link_distribution(name, site)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
        return folder / "bin/python"

    return create
