import sys

import pytest

from transxnet.data.reading.packed_strings import PackedStrings, PathsBelow

ODD = ["a/b.png", "", "\u00fc\u4e2d.jpg", "line\nbreak.png", "bytes-\udcff.png", "a/b.png"]


def test_names_round_trip():
    names = PackedStrings(iter(ODD))
    assert list(names) == ODD
    assert [names[i] for i in range(-6, 6)] == ODD + ODD
    assert names[1:4] == ODD[1:4]
    assert "" in names and "c" not in names
    for index in (6, -7):
        with pytest.raises(IndexError):
            names[index]
    assert list(PackedStrings([])) == []


def test_paths_are_joined_with_their_folder():
    paths = PathsBelow("/data/photos", PackedStrings(["cat/a.png", "dog/b.png"]))
    assert list(paths) == ["/data/photos/cat/a.png", "/data/photos/dog/b.png"]
    assert paths[-1:] == ["/data/photos/dog/b.png"]
    assert len(paths) == 2


def test_a_name_takes_its_bytes_and_eight_more():
    texts = [f"class{i % 10}/{i:08d}.png" for i in range(1000)]
    names = PackedStrings(texts)
    kept = sys.getsizeof(names._block) + names._ends.nbytes
    assert kept < sum(map(len, texts)) + 8 * len(texts) + 200
    assert kept < sum(map(sys.getsizeof, texts)) / 2
