"""The check command: options, errors, groups, and label errors by a model."""

import pytest

from tests.helpers.dense_data import write_maps
from transxnet import UserError, check, train
from transxnet.cli import main


def test_check_command_writes_files_that_train_accepts(planted_data, tmp_path, capsys, quiet):
    out = tmp_path / "out"
    assert main(["check", str(planted_data), "--out", str(out)]) == 0
    assert "Exact duplicates in two sets" in capsys.readouterr().out
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


def test_model_finds_swapped_labels(photos, photos_run, tmp_path, quiet):
    result = check(photos, model=photos_run.path, out=None, console=quiet)
    assert result.images == {"train": 36, "val": 9}
    assert all(result.all_images.set_name(f.images[0]) == "val" for f in result.of("label_error"))


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
