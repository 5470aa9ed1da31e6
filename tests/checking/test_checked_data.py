"""The images of a check, in the sets of a training."""

from transxnet.checking.checked_data import open_checked_data
from transxnet.data.open_data import open_data


def test_split_and_its_options_are_those_of_a_training(photos, quiet):
    found = open_checked_data(str(photos), None, None, None, 0.4, 2, quiet)
    source = open_data(str(photos), val_fraction=0.4, seed=2)
    assert found.images.sets["val"].own_names == source.val.own_names
    assert found.split_options == ("--val-fraction", "0.4", "--seed", "2")
    assert found.excluded == []
    assert open_checked_data(str(photos), None, None, None, None, None, quiet).split_options == ()


def test_data_with_a_validation_set_needs_no_options(planted_data, quiet):
    found = open_checked_data(str(planted_data), None, None, None, 0.4, None, quiet)
    assert list(found.images.sets) == ["train", "val"] and found.split_options == ()
