import pytest

from transxnet.utils.errors import Interrupted, UserError, check_at_least, check_one_of, nearest


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


def test_exit_status_tells_error_from_interruption():
    assert (UserError.exit_status, Interrupted.exit_status) == (2, 130)
