"""The command erf, from images to files."""

import csv
import json

import pytest
import torch
from PIL import Image

from tests.helpers.sample_images import write_images
from transxnet import UserError
from transxnet.analysis.erf import erf
from transxnet.cli import main
from transxnet.runs.model_spec import find_subject

SMALL = "transxnet_n@untrained,depths=(1,1,1,1),layer_scale_init_value=1.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("transxnet_z", "no run folder transxnet_z, and there is no model.*Did you mean 'transxnet_"),
        ("transxnet_t@untraind", "'untraind' is no setting. Did you mean 'untrained'"),
        ("transxnet_t@untrained,local_con=dwconv", "Did you mean 'local_conv'.*Accepted: .*attn_ratio"),
        ("transxnet_t@untrained,local_conv=dwcon", "local_conv must be.*Did you mean 'dwconv'"),
        ("transxnet_t@local_conv=dwcon", r"local_conv must be[^@]*$"),
        ("transxnet_n", "no published weights for transxnet_n.*transxnet_n@untrained"),
        ("transxnet_t@untrained,file=x.pth", "Leave out untrained, or the file"),
    ],
)
def test_a_subject_that_there_is_not(text, said):
    with pytest.raises(UserError, match=said):
        find_subject(text)


def test_subjects_have_arguments_places_and_weights_from_disk(tmp_path):
    subject = find_subject("transxnet_n@untrained,local_conv=dwconv,depths=(1,1,1,1):ste")
    assert (subject.label, subject.place) == ("transxnet_n (local_conv=dwconv, depths=(1, 1, 1, 1))", "ste")
    assert subject.untrained
    torch.save({"state_dict": subject.network.state_dict()}, tmp_path / "weights.pth")
    stored = find_subject(f"transxnet_n@file={tmp_path / 'weights.pth'},local_conv=dwconv,depths=(1,1,1,1)")
    assert not stored.untrained
    for ours, theirs in zip(stored.network.parameters(), subject.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_erf_command_writes_files_and_does_not_overwrite(tmp_path, capsys):
    write_images(tmp_path / "photos", 5)
    words = ["erf", SMALL, f"{SMALL}:idconv", "test_resnet@untrained", "--data", str(tmp_path / "photos")]
    words += ["--images", "3", "--size", "64", "--batch-size", "2", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "untrained" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out" / "erf.csv").open()))
    assert [row["place"] for row in rows] == ["stage 4", "IDConv, local branch", "stage 4"]
    assert all(row["untrained"] == "True" and row["images"] == "3" and row["size"] == "64" for row in rows)
    for row in rows:
        assert 0 <= float(row["radius_20"]) <= float(row["radius_50"]) <= float(row["radius_99"]) < 64 * 2**0.5
        assert 0 < float(row["area_20"]) <= float(row["area_99"]) <= 1
    content = json.loads((tmp_path / "out" / "erf.json").read_text())
    assert [entry["model"] for entry in content["fields"]] == [row["model"] for row in rows]
    assert Image.open(tmp_path / "out" / "erf.png").width > 500
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_erf_returns_fields_and_writes_nothing_without_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 2)
    (found,) = erf("test_resnet@untrained", "photos", images=2, size=32, out=None)
    assert found.density.shape == (32, 32)
    assert found.density.sum() == pytest.approx(1)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(images=3), "3 images are to be averaged and 2 were found.*--images 2"),
        (dict(images=0), "images must be a whole number of at least 1, got 0"),
        (dict(models=["test_resnet@untrained", "transxnet_n@untrained"], images=1), "160 and 224 pixels.*Give --size"),
        (dict(models=[]), "name the models"),
        (
            dict(models="test_vit@untrained", images=1, size=33),
            "test_vit does not take images of 33x33: .* another --size",
        ),
    ],
)
def test_invalid_options_are_refused(options, said, tmp_path):
    write_images(tmp_path, 2)
    with pytest.raises(UserError, match=said):
        erf(**{"models": "test_resnet@untrained", "data": tmp_path, "out": None, **options})
