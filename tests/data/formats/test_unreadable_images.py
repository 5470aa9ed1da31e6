import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.formats.class_folders import read_class_folders
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.formats.unreadable_images import check_each, drop_unreadable, drop_unusable
from transxnet.utils.errors import UserError


def spoil(images: ClassificationSet, *positions: int) -> None:
    for position in positions:
        with open(images.storage.paths[position], "w") as file:
            file.write("no image")


def spoil_names(data: str, *names: str) -> None:
    for name in names:
        Path(data, name).write_text("no image")


def stream(*classes: str) -> Stream:
    return Stream("tfds/pets", "validation", 10, list(classes))


def test_images_are_checked_in_order():
    assert list(check_each(3000, lambda i: i * 2)) == [i * 2 for i in range(3000)]
    assert list(check_each(0, lambda i: i)) == []


def test_the_number_of_checked_images_is_reported():
    calls = []
    assert list(check_each(3, str, calls.append, done=5)) == ["0", "1", "2"]
    assert calls == [6, 7, 8]


def test_unreadable_files_are_dropped_with_the_reason(files):
    spoil(files, 2, 7)
    calls, findings = [], Findings()
    (kept,) = drop_unusable([files.subset(np.arange(9, 0, -1))], findings, calls.append)
    assert kept.own_names == [f"{i}.png" for i in (9, 8, 6, 5, 4, 3, 1)]
    why = "not an image, or an unsupported format"
    assert findings.places == {Problem.IMAGE_UNREADABLE: [f"7.png: {why}", f"2.png: {why}"]}
    assert calls == list(range(1, 10))


def test_of_large_sets_only_the_headers_are_checked(files):
    path = files.storage.paths[3]
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[:45])
    spoil(files, 5)
    for full_up_to, lost in ((10, [3, 5]), (9, [5])):
        (kept,) = drop_unusable([files], Findings(), full_up_to=full_up_to)
        assert kept.own_names == [f"{i}.png" for i in range(10) if i not in lost]


def test_all_of_a_large_set_is_checked(files):
    spoil(files, 7)
    (kept,) = drop_unusable([files.subset(np.arange(3000) % 10)], Findings())
    assert kept.indices.tolist() == [i % 10 for i in range(3000) if i % 10 != 7]


def test_the_search_keeps_few_images_waiting(files, monkeypatch):
    """A pool with all of ImageNet queued would need two gigabytes for its tasks."""
    waiting, most = set(), [0]
    submit = ThreadPoolExecutor.submit

    def watch(pool, *args):
        future = submit(pool, *args)
        waiting.add(future)
        most[0] = max(most[0], len(waiting))
        future.add_done_callback(waiting.discard)
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", watch)
    drop_unusable([files.subset(np.arange(5000) % 10)], Findings())
    assert 0 < most[0] <= 1024


def test_check_restores_the_warning_filters(files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        drop_unusable([files.subset(np.arange(2000) % 10)], Findings())
        assert warnings.filters == before


def test_images_in_memory_are_all_readable():
    images = ClassificationSet(ArrayImages(np.zeros((3, 4, 4), np.uint8)), list("abc"), ["a"], np.zeros(3, int))
    (kept,), notes = drop_unreadable(images)
    assert kept is images
    assert notes == []


def test_undamaged_data_is_unchanged(folder):
    images = read_class_folders(Path(folder(cat=3, dog=3)))
    (kept,), notes = drop_unreadable(images)
    assert kept is images
    assert notes == []
    assert drop_unreadable(stream("a", "b")) == ([stream("a", "b")], [])


def test_unreadable_images_are_skipped_and_named(folder):
    data = folder(cat=30, dog=30)
    spoil_names(data, "cat/003.png", "dog/007.png")
    Path(data, "dog/008.png").write_bytes(b"")
    images = read_class_folders(Path(data))
    (kept,), notes = drop_unreadable(images)
    assert isinstance(kept, ClassificationSet)
    assert set(images.own_names) - set(kept.own_names) == {"cat/003.png", "dog/007.png", "dog/008.png"}
    assert kept.own_labels.tolist() == [0] * 29 + [1] * 28
    assert notes == [
        "3 images cannot be read, skipped: cat/003.png: not an image, or an unsupported format; "
        "dog/007.png: not an image, or an unsupported format; dog/008.png: the file is empty"
    ]


def test_more_than_a_twentieth_unreadable_is_an_error(folder):
    data = folder(cat=20, dog=20)
    spoil_names(data, "cat/000.png", "cat/001.png")
    assert len(drop_unreadable(read_class_folders(Path(data)))[0][0]) == 38
    spoil_names(data, "dog/000.png")
    with pytest.raises(UserError) as raised:
        drop_unreadable(read_class_folders(Path(data)))
    message = str(raised.value)
    assert message.startswith(
        "3 of 40 images cannot be used, more than 5%:\n3 images cannot be read:\n  cat/000.png: not an image"
    )
    assert message.endswith("Repair or remove them, or check that this is the right folder.")


def test_one_bad_file_in_a_small_validation_set_is_accepted(folder):
    data = folder(cat=20, dog=20)
    spoil_names(data, "dog/000.png")
    images = read_class_folders(Path(data))
    val = images.subset(np.array([0, 20]))
    train = images.subset(np.setdiff1d(np.arange(40), val.indices))
    done = []
    (kept_train, kept_val), notes = drop_unreadable(train, val, progress=done.append)
    assert (len(kept_train), len(kept_val), len(notes)) == (38, 1, 1)
    assert done[-1] == 40


def test_long_lists_of_unreadable_images_are_cut_in_errors(folder):
    data = folder(cat=20, dog=20)
    spoil_names(data, *(f"cat/{i:03d}.png" for i in range(13)))
    with pytest.raises(UserError, match=r"13 of 40(.|\n)*cat/009\.png.*\n  and 3 more\n"):
        drop_unreadable(read_class_folders(Path(data)))


def test_a_class_without_a_readable_image_is_a_named_error(folder):
    data = folder(cat=60, dog=2)
    spoil_names(data, "dog/000.png", "dog/001.png")
    with pytest.raises(UserError, match=r"of class 'dog' can be read:\n2 images cannot be read:\n  dog/000\.png: .*"):
        drop_unreadable(read_class_folders(Path(data)))
