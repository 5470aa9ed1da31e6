"""The C++ example classifies an image as PyTorch does."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import transxnet
from transxnet.runs.load import load_model

pytestmark = pytest.mark.long

SOURCE = Path(__file__).parents[2] / "examples" / "executorch"


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The compiled example."""
    package = Path(pytest.importorskip("executorch").__path__[0])
    folder = tmp_path_factory.mktemp("build")
    subprocess.run(["cmake", str(SOURCE), f"-Dexecutorch_DIR={package / 'share' / 'cmake'}"], cwd=folder, check=True)
    subprocess.run(["cmake", "--build", "."], cwd=folder, check=True)
    return folder / "classify"


@pytest.fixture(scope="module")
def model(photos_run, quiet, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("model") / "net.pte"
    return transxnet.export(photos_run.path, format="executorch", with_preprocessing=True, out=file, console=quiet)


def run(*command: Path) -> subprocess.CompletedProcess:
    return subprocess.run([str(each) for each in command], capture_output=True, text=True)


def test_classes_and_probabilities_are_those_of_pytorch(program, model, photos, photos_run, tmp_path):
    trained, size = load_model(photos_run.path), transxnet.read_metadata(model).size
    image = Image.open(next(photos.glob("*/*.png"))).convert("RGB").resize(size[::-1])
    image.save(tmp_path / "image.ppm")
    result = run(program, model, tmp_path / "image.ppm")
    assert result.returncode == 0, result.stderr
    found = {name: float(share) for share, name in (line.split(" ", 1) for line in result.stdout.splitlines())}
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (trained.preprocessing.mean, trained.preprocessing.std)
    )
    x = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / std
    with torch.no_grad():
        expected = trained.model(x[None]).softmax(1)[0]
    assert found == pytest.approx(dict(zip(trained.class_names, expected.tolist(), strict=True)), abs=2e-4)


def test_wrong_files_are_errors(program, model, tmp_path):
    Image.new("RGB", (5, 4)).save(tmp_path / "small.ppm")
    size = transxnet.read_metadata(model).size
    result = run(program, model, tmp_path / "small.ppm")
    assert result.returncode == 1 and f"is not a binary PPM image of {size[1]}x{size[0]} pixels" in result.stderr
    assert run(program, tmp_path / "small.ppm", tmp_path / "small.ppm").returncode == 1
    assert "usage" in run(program).stderr
