"""A dry run: what it prints, and that it writes nothing."""

import io

import pytest
import torch
from lightning.pytorch import Trainer
from rich.console import Console

from tests.helpers import dense_data
from tests.helpers.class_folders import QUICK
from transxnet.training.dry_run import _shapes
from transxnet.training.train import train
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("data", "options", "batch"),
    [
        ("photos", QUICK, r"float32 8x3x32x32; int64 8; int64 8"),
        ("squares", {**dense_data.QUICK, "task": "detect", "min_size": 64}, r"2 x (uint8 3x"),
        ("maps", {**dense_data.QUICK, "task": "segment", "crop": 64}, r"uint8 2x3x64x64; uint8 2x64x64; int64 2"),
    ],
)
def test_dry_run_prints_a_step_and_writes_nothing(data, options, batch, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    console = Console(file=io.StringIO(), width=200)
    run = train(request.getfixturevalue(data), dry_run=True, console=console, **options)
    shown = console.file.getvalue()
    assert f"batch     {batch}" in shown
    for text in ("parameters", "loss", "on cpu", "GiB in this process", "2 epochs of", "dry run: nothing was written"):
        assert text in shown
    assert not run.path.exists()
    assert list(tmp_path.iterdir()) == []


def test_shapes_of_nested_batches():
    image, label = torch.zeros(3, 4, 5), torch.zeros((), dtype=torch.int64)
    assert _shapes([image, label]) == ["float32 3x4x5", "int64 scalar"]
    assert _shapes(([image, image], [{"boxes": image[0], "labels": label}] * 2)) == [
        "2 x (float32 3x4x5)",
        "2 x (boxes float32 4x5, labels int64 scalar)",
    ]


@pytest.mark.parametrize("out", [None, "mine"])
def test_failed_start_leaves_no_run_folder(photos, tmp_path, monkeypatch, quiet, out):
    monkeypatch.chdir(tmp_path)

    def fail(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Trainer, "fit", fail)
    with pytest.raises(UserError, match="memory"):
        train(photos, out=out, console=quiet, **QUICK)
    assert not [path for path in tmp_path.rglob("*") if path.name != "runs"]


def test_limit_takes_images_at_even_distances(photos, squares, tmp_path, quiet):
    run = train(photos, out=tmp_path / "run", limit=8, console=quiet, **{**QUICK, "epochs": 1})
    split = run.split_file.read_text().splitlines()[1:]
    assert sorted(line.rsplit(",", 1)[-1] for line in split) == ["train"] * 8 + ["val"] * 8
    assert run.read_results()["images"] == 8
    assert run.read_config().limit == 8
