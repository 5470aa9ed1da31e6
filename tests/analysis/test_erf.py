"""The erf command, from images to result files."""

import csv
import io
import json

import pytest
from PIL import Image
from rich.console import Console

from tests.helpers.sample_images import write_images
from transxnet import UserError
from transxnet.analysis.erf import erf
from transxnet.cli import main

SMALL = "transxnet_n@untrained,depths=(1,1,1,1),layer_scale_init_value=1.0"


def test_erf_command_writes_files_and_does_not_overwrite(tmp_path, capsys):
    write_images(tmp_path / "photos", 5)
    arguments = ["erf", SMALL, f"{SMALL}:idconv", "test_resnet@untrained", "--data", str(tmp_path / "photos")]
    arguments += ["--images", "3", "--img-size", "64", "--batch-size", "2", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "untrained" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "erf.csv").open()))
    assert [row["part"] for row in rows] == ["stage 4", "IDConv, local branch", "stage 4"]
    assert all(row["untrained"] == "True" and row["images"] == "3" and row["size"] == "64" for row in rows)
    for row in rows:
        assert 0 <= float(row["radius_20"]) <= float(row["radius_50"]) <= float(row["radius_99"]) < 64 * 2**0.5
        assert 0 < float(row["area_20"]) <= float(row["area_99"]) <= 1
    content = json.loads((tmp_path / "out" / "erf.json").read_text())
    assert [entry["model"] for entry in content["fields"]] == [row["model"] for row in rows]
    assert Image.open(tmp_path / "out" / "erf.png").width > 500
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_erf_returns_fields_and_writes_nothing_without_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 2)
    console = Console(file=io.StringIO())
    (found,) = erf("test_resnet@untrained", "photos", images=3, img_size=32, out=None, console=console)
    assert "found 2 images; the average is over fewer than 3" in console.file.getvalue()
    assert found.images == 2
    assert found.density.shape == (32, 32)
    assert found.density.sum() == pytest.approx(1)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(images=0), "images must be an integer of at least 1, got 0"),
        (
            dict(models=["test_resnet@untrained", "transxnet_n@untrained"], images=1),
            "image sizes .160, 224.*such as --img-size 224",
        ),
        (dict(models=[]), "no models given. Name the models"),
        (
            dict(models="test_vit@untrained", images=1, img_size=33),
            "test_vit does not support images of 33x33: .* another --img-size",
        ),
    ],
)
def test_invalid_options_are_errors(options, message, tmp_path):
    write_images(tmp_path, 2)
    with pytest.raises(UserError, match=message):
        erf(**{"models": "test_resnet@untrained", "data": tmp_path, "out": None, **options})
