"""The check command: options, errors, groups, and label errors by a model."""

import re
import shutil

import numpy as np
import pytest

from tests.helpers.class_folders import QUICK, write_photos
from tests.helpers.dense_data import write_maps
from tests.helpers.planted_problems import swap_labels, texture
from transxnet import UserError, check, evaluate, train
from transxnet.cli import main
from transxnet.data.open_data import open_data


def test_check_command_writes_files_that_train_accepts(planted_data, tmp_path, capsys, quiet):
    out = tmp_path / "out"
    assert main(["check", str(planted_data), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "Exact duplicates in two sets" in text
    assert f"transxnet train {planted_data} --exclude {out / 'fixes.csv'}" in text
    assert main(["check", str(planted_data), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    options = dict(model="test_resnet", img_size=32, epochs=1, workers=0, device="cpu", console=quiet)
    run = train(planted_data, out=tmp_path / "run", exclude=out / "fixes.csv", **options)
    assert run.exclude_file.is_file()
    assert "3 images excluded by" in (run.path / "environment.json").read_text()
    assert run.read_config().exclude == str(run.exclude_file)


def test_groups_in_two_sets_are_found(planted_data, quiet):
    result = check(planted_data, group_from="^[ab]/[01]([79])", out=None, console=quiet)
    images = result.all_images
    found = [{f"{images.set_name(n)}/{images.name(n)}" for n in leak.images} for leak in result.of("group_leak")]
    assert found == [{"train/b/09.png", "val/b/19.png"}, {"train/b/17.png", "val/b/07.png"}]


def test_found_groups_are_described_before_images_are_read(planted_data, quiet, monkeypatch):
    result = check(planted_data, group_from="^[ab]/[01]([79])", out=None, console=quiet)
    about = "2 groups of images (--group-from), such as 9, 7"
    assert any(note.startswith(about) for note in result.notes), result.notes
    monkeypatch.setattr("transxnet.checking.check.scan_images", None)
    with pytest.raises(UserError, match="matches no image"):
        check(planted_data, group_from="patient-[0-9]+", out=None, console=quiet)


def label_errors(result) -> list[str]:
    images = result.all_images
    numbers = [finding.images[0] for finding in result.of("label_error")]
    return [f"{images.set_name(number)}/{images.name(number)}" for number in numbers]


def assert_found(found: list[str], planted: set[str]) -> None:
    """Assert a recall and a precision of at least 80%."""
    hits = planted.intersection(found)
    assert len(hits) >= 0.8 * len(planted)
    assert len(hits) >= 0.8 * len(found)


def test_model_finds_swapped_labels(tmp_path, quiet):
    data = tmp_path / "data"
    write_photos(data / "train", 15)
    write_photos(data / "val", 10, seed=1)
    planted = {f"val/{name}" for name in swap_labels(data / "val", 6)}
    assert len(planted) == 5
    run = train(data, out=tmp_path / "run", lr=3e-3, console=quiet, **QUICK | {"epochs": 6, "select": "last"})
    result = check(data, model=run.path, out=None, console=quiet)
    assert result.images == {"train": 45, "val": 30}
    assert_found(label_errors(result), planted)


def test_split_of_the_run_is_checked_with_the_images_that_it_excluded(photos, tmp_path, quiet, console):
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    whole = check(data, out=None, console=quiet)
    names = [whole.all_images.name(n) for n in range(len(whole.all_images))]
    (tmp_path / "fixes.csv").write_text(f"image\n{names[0]}\n{names[-1]}\n")
    options = QUICK | dict(epochs=1, exclude=tmp_path / "fixes.csv", train_fraction=0.5)
    run = train(data, out=tmp_path / "run", console=quiet, **options)
    result = check(data, model=run.path, out=tmp_path / "out", console=console)
    assert result.images == whole.images
    assert [result.all_images.name(n) for n in range(len(names))] == names
    assert [finding.images for finding in result.of("excluded")] == [(0,), (len(names) - 1,)]
    text = console.file.getvalue()
    assert f"the data has no validation set: split as by {run.path}" in text
    assert re.search(r"label errors: the model agrees with [\d.]+% of \d+ labels", text)
    fixes = tmp_path / "out" / "fixes.csv"
    assert f"train {data} --exclude {fixes} --split-file {run.split_file}" in text
    source = open_data(str(data), stored_split=run.split_file, exclude=fixes)
    assert [len(source.train), len(source.val)] == [whole.images["train"] - 1, whole.images["val"] - 1]
    with pytest.raises(UserError, match=r"has a split already, got --seed 1\. Remove --seed or --model"):
        check(data, model=run.path, seed=1, out=None, console=quiet)
    (data / names[0]).unlink()
    assert check(data, model=run.path, out=None, console=quiet).images["train"] == whole.images["train"] - 1
    data.rename(tmp_path / "moved")
    moved = evaluate(run.path, tmp_path / "moved", console=quiet)
    assert names[-1] not in moved.names and len(moved) == whole.images["val"] - 1


def test_folds_find_swapped_labels_in_all_sets(photos_run, tmp_path, quiet):
    data, planted = tmp_path / "data", set()
    for seed, (part, count) in enumerate((("train", 30), ("val", 10)), 10):
        write_photos(data / part, count, seed)
        planted |= {f"{part}/{name}" for name in swap_labels(data / part, 10)}
    result = check(data, model=photos_run.path, folds=4, out=None, console=quiet)
    found = label_errors(result)
    assert_found(found, planted)
    assert {name.partition("/")[0] for name in found} == {"train", "val"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 3}, "--folds needs a classifier for the features. Add --model"),
        ({"folds": 1, "model": "x"}, "folds must be an integer of at least 2, got 1"),
    ],
)
def test_folds_without_a_model_or_below_two_are_refused(options, message, photos):
    with pytest.raises(UserError, match=re.escape(message)):
        check(photos, out=None, **options)


def test_folds_of_label_maps_are_refused(maps, photos_run, quiet):
    with pytest.raises(UserError, match="--model needs images with one class each"):
        check(maps, model=photos_run.path, folds=2, out=None, console=quiet)


def test_label_maps_are_checked(tmp_path, quiet):
    result = check(write_maps(tmp_path / "maps", 6), out=None, console=quiet)
    assert result.counts == {}
    assert result.images == {"train": 6, "val": 3}


@pytest.mark.parametrize("similarity", [0, 1.5])
def test_similarity_out_of_range_is_refused(similarity, photos):
    with pytest.raises(UserError, match=f"similarity must be greater than 0 and at most 1, got {similarity}"):
        check(photos, similarity=similarity, out=None)


def test_model_of_other_data_is_refused(planted_data, photos_run):
    with pytest.raises(UserError, match=r"was not trained on .* Pass a run"):
        check(planted_data, model=photos_run.path, out=None)


def test_16_bit_images_of_channels_are_compared(tmp_path, photos_run, quiet):
    """The first three channels are constant: a rendering of these alone would have nothing to compare."""
    for seed in range(8):
        gray = np.asarray(texture(seed).convert("L"), np.uint16) * 256
        pixels = np.stack([np.full_like(gray, 7)] * 3 + [gray])
        for name, copy in (("", pixels), *([("-copy", pixels[..., ::-1])] if seed == 0 else [])):
            file = tmp_path / "data" / "ab"[seed % 2] / f"{seed}{name}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, copy)
    result = check(tmp_path / "data", channels=4, out=tmp_path / "out", console=quiet)
    images, kinds = result.all_images, ("near_duplicate", "near_leak")
    found = [{images.name(n) for n in finding.images} for kind in kinds for finding in result.of(kind)]
    assert found == [{"a/0.npy", "a/0-copy.npy"}]
    assert result.modes == {"4 channels": 9} and not result.of("unreadable")
    assert (tmp_path / "out" / "check.html").read_text().count("data:image") >= 2
    with pytest.raises(UserError, match=r"reads RGB images, got channels 4\. Remove --channels or --model"):
        check(tmp_path / "data", model=photos_run.path, folds=2, channels=4, out=None, console=quiet)
