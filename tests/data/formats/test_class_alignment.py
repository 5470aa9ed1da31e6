import random

import pytest
from torchvision.models import ResNet18_Weights

from transxnet.data.formats.class_alignment import align_classes, class_order, imagenet_synsets, in_words
from transxnet.utils.errors import UserError

SYNSETS = list(imagenet_synsets())


def shuffled(items):
    return random.Random(0).sample(items, len(items))


def test_names_are_sorted_as_text():
    assert class_order(["b", "a10", "a9", "B"]) == ["B", "a10", "a9", "b"]


@pytest.mark.parametrize("count", [12, 1000])
def test_numbers_are_sorted_as_numbers(count):
    names = [str(n) for n in range(count)]
    assert class_order(shuffled(names)) == names
    assert sorted(names) != names  # sorted as text they would be wrong


def test_numbers_with_zeros_in_front_have_one_order_too():
    names = ["0", "00", "1", "01", "10"]
    assert all(class_order(random.Random(i).sample(names, 5)) == ["0", "00", "01", "1", "10"] for i in range(20))


def test_numbers_among_names_are_text():
    assert class_order(["10", "9", "x"]) == ["10", "9", "x"]
    assert class_order(["²", "10", "9"]) == ["10", "9", "²"]


def test_imagenet_has_its_synsets_in_the_standard_order():
    assert len(SYNSETS) == len(set(SYNSETS)) == 1000
    assert sorted(SYNSETS) == SYNSETS
    # Names from torchvision's list: tench, goldfinch, tabby, toilet tissue.
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    for index, synset, name in (
        (0, "n01440764", "tench"),
        (11, "n01531178", "goldfinch"),
        (281, "n02123045", "tabby"),
        (999, "n15075141", "toilet tissue"),
    ):
        assert (SYNSETS[index], names[index]) == (synset, name)


def test_imagenets_folders_in_sorted_order_are_its_classes():
    assert align_classes(SYNSETS, class_order(shuffled(SYNSETS))) == list(range(1000))


def test_imagenet_v2s_numbers_are_imagenets_classes():
    folders = class_order(shuffled([str(n) for n in range(1000)]))
    assert align_classes(SYNSETS, folders) == list(range(1000))


def test_some_of_imagenets_classes_keep_their_indices():
    assert align_classes(SYNSETS, ["n02123045", "n01440764"]) == [281, 0]
    assert align_classes(SYNSETS, class_order(["11", "2", "999"])) == [2, 11, 999]


def test_numbers_mean_nothing_to_another_model():
    with pytest.raises(UserError, match="3 of 3 are unknown"):
        align_classes(["cat", "dog", "fox"], ["0", "1", "2"])


def test_numbers_that_are_names_are_matched_as_names():
    assert align_classes(["0", "1", "10", "2"], ["2", "10"]) == [3, 2]


def test_a_number_beyond_imagenets_is_unknown():
    with pytest.raises(UserError, match="'1000'"):
        align_classes(SYNSETS, ["0", "1000"])


def test_numbers_and_names_do_not_mix():
    with pytest.raises(UserError, match="1 of 2 are unknown, '7'"):
        align_classes(SYNSETS, ["n01440764", "7"])


def test_the_data_may_have_fewer_classes_in_another_order():
    assert align_classes(["bird", "cat", "dog"], ["dog", "bird"]) == [2, 0]


def test_unknown_classes_are_named_with_the_nearest():
    with pytest.raises(UserError) as raised:
        align_classes(["bird", "cat", "dog"], ["cat", "dogs", "emu"])
    assert str(raised.value) == (
        "the classes of the data do not match the model: 2 of 3 are unknown, 'dogs', 'emu'. "
        "The model has 3: 'bird', 'cat', 'dog'. Did you mean 'dog'? Rename the classes, or train on this data."
    )


def test_long_lists_of_unknown_classes_are_cut():
    with pytest.raises(
        UserError, match=r"'x0', 'x1', 'x2', 'x3', 'x4' and more\. The model has 1000: 'n01440764'.* and more"
    ):
        align_classes(SYNSETS, [f"x{i}" for i in range(50)])


def test_wordnet_ids_are_shown_as_words_other_names_unchanged():
    assert in_words("n02123045") == "tabby"
    assert in_words("n02123045x") == "n02123045x"
    assert in_words("solar cell") == "solar cell"


def test_names_match_in_any_unicode_form():
    assert align_classes(["dog", "caf\u00e9"], ["cafe\u0301", "dog"]) == [1, 0]
