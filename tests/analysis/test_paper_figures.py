"""The networks of the paper's figures, with published weights where they are available."""

import csv
import io
import json

import pytest
import timm
import torch
from rich.console import Console

from tests.helpers.sample_images import write_images
from transxnet import UserError
from transxnet.analysis.erf import erf
from transxnet.analysis.paper_figures import (
    ERF_FIGURES,
    EXPLAIN_FIGURES,
    PaperFigure,
    find_figure,
    load_or_untrained,
    models_of,
    split_words,
)
from transxnet.models.create import create_model
from transxnet.models.model_spec import parse_model_spec

FIGURES = ERF_FIGURES | EXPLAIN_FIGURES
SMALL = PaperFigure(("transxnet_n", "test_resnet@num_classes=1000"), "Follows a small figure.", size=64)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_show_the_networks_of_the_text(name):
    specs = [spec for spec, _ in models_of(FIGURES[name], ())]
    assert {"transxnet_s", "uniformer_small", "swin_tiny_patch4_window7_224", "pvt_v2_b2"} <= {s.name for s in specs}
    assert all(timm.is_model(spec.architecture) for spec in specs)
    with torch.device("meta"):
        for spec in specs:
            create_model(spec)


def test_figure_6_has_the_local_convolutions_of_table_vii():
    specs = [spec for spec, _ in models_of(FIGURES["fig6"], ())]
    found = [spec.options["local_conv"] for spec in specs if spec.options]
    assert found == ["dwconv", "window", "dyconv", "d_dwconv", "idconv"]


def test_given_model_takes_the_place_of_the_same_network():
    figure = PaperFigure(("transxnet_s", "transxnet_t@local_conv=dwconv"), "")
    given = ["transxnet_t@local_conv=dwconv,file=a.pth", "resnet18", "transxnet_s.in1k@file=b.pth", "transxnet_s"]
    assert [(spec.text, default) for spec, default in models_of(figure, given)] == [
        ("transxnet_s.in1k@file=b.pth", False),
        ("transxnet_t@local_conv=dwconv,file=a.pth", False),
        ("resnet18", False),
        ("transxnet_s", False),
    ]


def test_words_are_split_into_networks_and_images():
    words = ["photos/a.jpg", "transxnet_s@file=x.pth", "uniformer_small@file=y.pth", "resnet50", "b.png"]
    models, images = split_words(EXPLAIN_FIGURES["fig7"], words)
    assert models == ["transxnet_s@file=x.pth", "uniformer_small@file=y.pth"]
    assert images == ["photos/a.jpg", "resnet50", "b.png"]


def test_only_models_that_the_user_did_not_choose_may_be_untrained():
    console = Console(file=io.StringIO(), width=1000)
    spec = parse_model_spec("uniformer_small")
    trained = load_or_untrained(spec, True, None, console)
    assert trained.untrained
    assert console.file.getvalue() == (
        "uniformer_small is untrained: no published weights for uniformer_small. To use weights on disk, add "
        "uniformer_small@file=PATH.\n"
    )
    with pytest.raises(UserError, match="no published weights for uniformer_small"):
        load_or_untrained(spec, False, None, console)
    with pytest.raises(UserError, match=r"missing\.pth does not exist"):
        load_or_untrained(parse_model_spec("uniformer_small@file=missing.pth"), False, None, console)


def test_erf_preset_uses_given_weights_and_marks_the_others(tmp_path, monkeypatch):
    monkeypatch.setitem(ERF_FIGURES, "fig2", SMALL)
    write_images(tmp_path / "photos", 1)
    weights = dict(timm.create_model("test_resnet").state_dict())
    torch.save(weights, tmp_path / "weights.pth")
    console = Console(file=io.StringIO(), width=1000)
    given = [f"test_resnet@num_classes=1000,file={tmp_path / 'weights.pth'}"]
    fields = erf(given, tmp_path / "photos", images=1, preset="fig2", out=tmp_path / "out", console=console)
    assert [field.untrained for field in fields] == [True, False]
    assert fields[0].density.shape == (64, 64)
    assert "Follows a small figure." in console.file.getvalue()
    rows = json.loads((tmp_path / "out" / "erf.json").read_text())["fields"]
    assert [row["untrained"] for row in rows] == [True, False]
    assert [row["untrained"] for row in csv.DictReader((tmp_path / "out" / "erf.csv").open())] == ["True", "False"]


def test_unknown_preset_is_an_error():
    with pytest.raises(UserError, match=r"unknown preset 'fig3'\. Did you mean .* Accepted: fig2, fig6\."):
        find_figure(ERF_FIGURES, "fig3")
