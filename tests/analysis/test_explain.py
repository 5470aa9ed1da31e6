"""The explain command, from images to result files."""

import csv

import pytest
from PIL import Image

from tests.helpers.sample_images import write_images
from transxnet import UserError
from transxnet.analysis.explain import explain
from transxnet.cli import main

pytest.importorskip("pytorch_grad_cam")


SMALL = "transxnet_n@untrained,depths=(1,1,1,1),layer_scale_init_value=1.0"


def test_explain_command_writes_files_and_skips_bad_images(tmp_path, capsys):
    first, second = write_images(tmp_path / "photos", 2)
    second.write_text("not an image")
    arguments = ["explain", SMALL, str(tmp_path / "photos"), "--class-name", "tabby", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "tabby" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "explanations.csv").open()))
    assert [(row["path"], row["class"], row["image"]) for row in rows] == [
        (str(first), "tabby", "0001-00.png"),
        (str(second), "", ""),
    ]
    assert "not an image" in rows[1]["error"]
    assert Image.open(tmp_path / "out" / "0001-00.png").width > 800
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments[:3], "--class-name", "tabbi", "--out", str(tmp_path / "other")]) == 2
    assert "Did you mean" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_explain_one_part_without_writing_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 1)
    (found,) = explain("test_resnet@untrained:layer2", "photos", out=None)
    assert list(found.maps) == ["layer2"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    with pytest.raises(UserError, match=r"no part 'layer9'\. Did you mean 'layer"):
        explain("test_resnet@untrained:layer9", "photos", out=None)
