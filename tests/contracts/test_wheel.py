"""The wheel and the source archive, and the package installed from the wheel without extras."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers.class_folders import write_photos
from tests.helpers.command_line import QUICK
from transxnet.cli.command_table import COMMANDS

ROOT = Path(__file__).parents[2]
BUILT = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The unpacked source archive, built in a copy of the project."""
    project = tmp_path_factory.mktemp("project")
    for name in BUILT:
        shutil.copy(ROOT / name, project)
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    code = "from setuptools.build_meta import build_sdist; build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True)
    (archive,) = (project / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(project / "unpacked", filter="data")
    (folder,) = (project / "unpacked").iterdir()
    return folder


@pytest.fixture(scope="module")
def wheel(sdist) -> Path:
    """The wheel, built from the source archive."""
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=sdist, check=True, capture_output=True)
    (path,) = (sdist / "dist").glob("*.whl")
    return path


def test_sdist_holds_what_the_wheel_and_the_readme_need(sdist):
    assert all((sdist / name).is_file() for name in (*BUILT, "docs/demo-report.png"))


def test_wheel_holds_the_files_of_the_package(wheel):
    package = ROOT / "src" / "transxnet"
    wanted = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert wanted == {name for name in names if name.startswith("transxnet/")}
    assert {"transxnet/py.typed", "transxnet/recipes/demo.yaml", "transxnet/templates/report.css"} <= wanted
    for ending in ("licenses/LICENSE", "share/doc/transxnet/CHANGELOG.md", "share/doc/transxnet/CITATION.cff"):
        assert any(name.endswith(ending) for name in names), ending


def test_description_has_no_links_to_files_of_the_repository(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    text = archive.read(metadata).decode()
    assert "](https://arxiv.org/abs/2310.19380)" in text
    assert "](docs/" not in text and "](benchmarks/" not in text and "![" not in text


def requirements(name: str, extras: frozenset[str] = frozenset(), found: set[str] | None = None) -> set[str]:
    """Return the names of the installed packages that a package needs, itself included."""
    found = set() if found is None else found
    found.add(name)
    for line in distribution(name).requires or []:
        needed = Requirement(line)
        if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        try:
            distribution(needed.name)
        except PackageNotFoundError:  # a package of CUDA where torch was installed without
            continue
        if needed.name not in found or needed.extras:
            requirements(needed.name, frozenset(needed.extras), found)
    return found


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory) -> Path:
    """The scripts of an environment with the wheel and the packages that it requires, linked from this environment."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in requirements("transxnet") - {"transxnet"}:
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(distribution(name).locate_file(top))
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-index"]
    subprocess.run([*install, "--no-deps", str(wheel)], env=ENVIRONMENT, check=True, capture_output=True)
    return folder / "bin"


def run(fresh: Path, *words: object, cwd: Path) -> str:
    line = [str(fresh / str(words[0])), *map(str, words[1:])]
    done = subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_wheel_without_extras_trains_evaluates_and_predicts(fresh, tmp_path):
    write_photos(tmp_path / "photos", 8)
    where = run(fresh, "python", "-c", "import transxnet; print(transxnet.__file__)", cwd=tmp_path)
    assert str(fresh.parent) in where
    code = "from importlib.util import find_spec; print(find_spec('pytorch_grad_cam'), find_spec('pycocotools'))"
    assert run(fresh, "python", "-c", code, cwd=tmp_path) == "None None\n"
    run(fresh, "transxnet", "train", "photos", "--out", "run", "--epochs", 1, *QUICK, cwd=tmp_path)
    assert (tmp_path / "run" / "report.html").is_file()
    run(fresh, "transxnet", "eval", "run", "--out", "evaluation.json", cwd=tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text())
    run(fresh, "transxnet", "predict", "run", "photos", cwd=tmp_path)
    with (tmp_path / "predictions" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 24


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_wheel_prints_the_help_of_each_command(fresh, command, tmp_path):
    assert run(fresh, "transxnet", command, "--help", cwd=tmp_path).startswith(f"usage: transxnet {command}")
