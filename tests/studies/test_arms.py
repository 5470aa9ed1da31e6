import pytest

from transxnet.studies.arms import make_arms, read_arms
from transxnet.utils.errors import UserError


def test_models_are_arms_of_their_names():
    assert read_arms(["a", "b"], None) == {"a": {"model": "a"}, "b": {"model": "b"}}


def test_arms_of_a_file_override_the_options_of_all(tmp_path):
    file = tmp_path / "arms.yaml"
    file.write_text("plain: {model: test_resnet}\nsmooth: {model: test_resnet, smoothing: 0.3, recipe: demo}\n")
    plain, smooth = make_arms(read_arms(None, file), "digits", "classify", None, {"smoothing": 0.2, "epochs": 3})
    assert (plain.name, plain.model, plain.file_name) == ("plain", "test_resnet", "plain")
    assert (plain.options["smoothing"], smooth.options["smoothing"]) == (0.2, 0.3)
    assert plain.options["epochs"] == smooth.options["epochs"] == 3
    assert plain.options["img_size"] != smooth.options["img_size"] or smooth.options["mixup"] != plain.options["mixup"]
    assert not {"data", "seed", "out", "task", "split_file"} & set(plain.options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "cannot read .*arms.yaml"),
        ("- a", "must contain training options by the name of the arm"),
        ("a: 1", "must contain training options by the name of the arm"),
        ("a: {seed: 1}", "arm 'a' sets seed, which is the same for all arms"),
        ("a: {val_fraction: 0.5}", "arm 'a' sets val_fraction, which is the same for all arms"),
        ("{}", "a study needs at least one arm, got none"),
        ("a@b: {}\na-b: {}", "two arms have the same name"),
    ],
)
def test_unusable_file_of_arms_is_an_error(tmp_path, text, message):
    (tmp_path / "arms.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_arms(None, tmp_path / "arms.yaml")
    with pytest.raises(UserError, match=r"cannot read .*none\.yaml"):
        read_arms(None, tmp_path / "none.yaml")


def test_unknown_option_of_an_arm_names_the_arm():
    with pytest.raises(UserError, match="arm 'a': unknown option 'epoch'"):
        make_arms({"a": {"epoch": 3}}, "digits", "classify", None, {})


def test_weights_trained_on_the_same_images_are_a_leak(photos, photos_run):
    with pytest.raises(UserError, match=r"was trained on images of .*photos, which are test images of a fold"):
        make_arms({"a": {"model": "test_resnet", "checkpoint": str(photos_run.path)}}, photos, "classify", None, {})
