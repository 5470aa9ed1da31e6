from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.command_line import QUICK
from transxnet.cli import main


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Two classes of ten images, dark and light."""
    root = tmp_path_factory.mktemp("data") / "photos"
    noise = np.random.default_rng(0)
    for name, gray in (("dark", 60), ("light", 190)):
        (root / name).mkdir(parents=True)
        for i in range(10):
            pixels = (gray + noise.normal(0, 20, (24, 24, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def run(photos, tmp_path_factory) -> Path:
    """A run trained from the command line."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(photos), "--out", str(out), "--epochs", "1", *QUICK]) == 0
    return out


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
