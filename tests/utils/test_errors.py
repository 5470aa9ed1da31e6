import pytest

from transxnet.utils.errors import (
    Interrupted,
    UserError,
    advice,
    by_interface,
    check_at_least,
    check_one_of,
    check_resumed_alone,
    command_line,
    nearest,
)


def test_nearest_names_are_suggested():
    assert nearest("epoch", ["epochs", "lr"]) == " Did you mean 'epochs'?"
    assert nearest("hflip", ["vflip", "hflips", "lr"]) == " Did you mean 'hflips' or 'vflip'?"
    assert nearest("zzz", ["epochs", "lr"]) == ""


def test_value_below_the_minimum_is_named():
    check_at_least(1, rounds=1, images=5)
    with pytest.raises(UserError, match=r"images must be an integer of at least 1, got 0\."):
        check_at_least(1, rounds=1, images=0)


def test_value_that_is_not_accepted_is_named():
    check_one_of(("train", "infer"), mode="train")
    with pytest.raises(UserError, match=r"mode must be 'train' or 'infer', got 'test'\."):
        check_one_of(("train", "infer"), mode="test")


def test_options_beside_resume_are_named():
    check_resumed_alone("run", "--epochs", {"data": None, "task": None, "overwrite": False}, [])
    with command_line(), pytest.raises(UserError) as error:
        check_resumed_alone("run", "--epochs", {"data": "digits", "overwrite": True, "task": None}, ["batch_size"])
    assert str(error.value) == (
        "--resume uses the options of the run and accepts no others but --epochs. Remove digits, --overwrite, "
        "--batch-size."
    )


def test_exit_status_tells_error_from_interruption():
    assert (UserError.exit_status, Interrupted.exit_status) == (2, 130)


@pytest.mark.parametrize(
    ("text", "in_python"),
    [
        ("Use --overwrite, or choose another --out.", "Use overwrite=True, or choose another out."),
        ("Use --batch-size 2 or more.", "Use batch_size=2 or more."),
        ("(--precision 32-true).", "(precision=32-true)."),
        ("Use --out NAME.parquet, or --rows-per-file for", "Use out=NAME.parquet, or rows_per_file for"),
        ("clip gradients (--clip-grad 1), or", "clip gradients (clip_grad=1), or"),
        ("Try --dynamic none", "Try dynamic none"),
        ("See: transxnet train --help", "See: help(transxnet.train)"),
        ("Resume with: transxnet train --resume runs/a-1", "Resume with: transxnet.train(resume='runs/a-1')"),
        ("with: transxnet train --resume runs/a. Or", "with: transxnet.train(resume='runs/a'). Or"),
        ("a model name with --file weights/a.pth.", "a model name with file='weights/a.pth'."),
        ("Resume it with --resume runs/x, or", "Resume it with resume='runs/x', or"),
        ("Use --val-fraction 0.25.", "Use val_fraction=0.25."),
        ("a well-known--name stays", "a well-known--name stays"),
    ],
)
def test_advice_fits_the_interface(text, in_python):
    error = UserError(text)
    assert str(error) == advice(text) == text
    assert by_interface("--file", "file=...") == "--file"
    with command_line(False):
        assert str(error) == advice(text) == in_python
        assert by_interface("--file", "file=...") == "file=..."
    assert str(error) == text
