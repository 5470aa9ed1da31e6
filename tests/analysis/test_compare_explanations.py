"""The explain command with a preset: several networks below each other."""

import csv

import pytest
from PIL import Image

from tests.helpers.sample_images import write_images
from transxnet import UserError
from transxnet.analysis.explain import explain
from transxnet.analysis.paper_figures import EXPLAIN_FIGURES, PaperFigure
from transxnet.cli import main

pytest.importorskip("pytorch_grad_cam")

FIGURE = PaperFigure(("transxnet_n", "test_resnet"), "Follows a small figure.")


@pytest.fixture(autouse=True)
def _small_figure(monkeypatch):
    monkeypatch.setitem(EXPLAIN_FIGURES, "fig7", FIGURE)


def test_preset_writes_one_figure_for_each_image(tmp_path, capsys):
    first, second = write_images(tmp_path / "photos", 2)
    second.write_text("not an image")
    arguments = ["explain", "--preset", "fig7", "test_resnet@untrained", str(tmp_path / "photos")]
    arguments += ["--class-name", "tabby", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "transxnet_n is untrained: no published weights" in printed
    assert "Follows a small figure." in printed
    rows = list(csv.DictReader((tmp_path / "out" / "explanations.csv").open()))
    assert [(row["path"], row["model"], row["untrained"], row["class"], row["image"]) for row in rows] == [
        (str(first), "transxnet_n", "True", "tabby", "0001-00.png"),
        (str(first), "test_resnet", "True", "tabby", "0001-00.png"),
        (str(second), "", "", "", ""),
    ]
    assert "not an image" in rows[2]["error"]
    image = Image.open(tmp_path / "out" / "0001-00.png")
    assert image.width > 800
    assert image.height > 400


@pytest.mark.long
def test_preset_returns_the_stages_of_every_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 1)
    found = explain("test_resnet@untrained", "photos", preset="fig7", out=None)
    assert [list(entry.maps) for entry in found] == [["stage1", "stage2", "stage3", "stage4"]] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_invalid_arguments_are_errors(tmp_path, capsys):
    write_images(tmp_path, 1)
    with pytest.raises(UserError, match=r"--preset fig7 has several networks\. Instead of --file, add NAME@file=w.pth"):
        explain([], tmp_path, preset="fig7", file="w.pth", out=None)
    with pytest.raises(UserError, match="accepts one model without a preset, got 2"):
        explain(["transxnet_n", "test_resnet"], tmp_path, out=None)
    with pytest.raises(UserError, match=r"unknown preset 'fig8'. Did you mean 'fig7'"):
        explain([], tmp_path, preset="fig8", out=None)
    assert main(["explain", "transxnet_n@untrained"]) == 2
    assert "missing: IMAGE." in capsys.readouterr().err
