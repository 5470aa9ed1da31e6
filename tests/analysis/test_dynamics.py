"""The dynamics command, from images to result files."""

import csv
import json

import pytest
from PIL import Image

from tests.helpers.sample_images import write_images
from transxnet import UserError
from transxnet.analysis.dynamics import dynamics
from transxnet.cli import main

SMALL = "transxnet_n@untrained,depths=(1,1,1,1)"


def test_dynamics_command_writes_figure_and_tables(tmp_path, capsys):
    first, second = write_images(tmp_path, 2)
    assert main(["dynamics", SMALL, str(first), str(second), "--out", str(tmp_path / "out")]) == 0
    assert "stages.3.blocks.0.mixer" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "dynamics.csv").open()))
    assert len(rows) == 4
    assert all(0 <= float(row["kernel_variation"]) <= 1 for row in rows)
    content = json.loads((tmp_path / "out" / "dynamics.json").read_text())
    assert content["untrained"] is True
    assert content["images"] == [str(first), str(second)]
    assert Image.open(tmp_path / "out" / "dynamics.png").width > 500
    assert main(["dynamics", SMALL, str(first), str(second), "--out", str(tmp_path / "out")]) == 2


def test_dynamics_takes_three_images(tmp_path):
    result = dynamics(SMALL, write_images(tmp_path, 3), out=tmp_path / "out")
    assert result.images.shape == (3, 224, 224, 3)
    assert result.mixers[0].kernels.shape == (3, 16, 7, 7)
    assert (tmp_path / "out" / "dynamics.png").is_file()


def test_invalid_options_are_errors(tmp_path):
    first, second = write_images(tmp_path, 2)
    with pytest.raises(UserError, match="at least two images, got 1"):
        dynamics(SMALL, first, out=None)
    with pytest.raises(UserError, match="Remove ':osra' from the model name"):
        dynamics(f"{SMALL}:osra", [first, second], out=None)
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(UserError, match=r"cannot read .*text.png: not an image"):
        dynamics(SMALL, [first, tmp_path / "text.png"], out=None)
