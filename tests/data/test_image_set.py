import logging
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from transxnet.data.image_set import ArrayPictures, ClassificationDataset, FilePictures, ImageSet, seeded
from transxnet.data.images import UnreadableImage
from transxnet.data.sampler import EpochSampler
from transxnet.data.transforms import Preprocessing


@pytest.fixture
def files(tmp_path):
    """A set of ten 8x8 pictures in files, picture i filled with the colour (i, i, i)."""
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (i, i, i)).save(path)
    names = [path.name for path in paths]
    return ImageSet(FilePictures([str(p) for p in paths]), names, np.arange(10) % 2, ["even", "odd"])


def shade(picture) -> torch.Tensor:
    return torch.tensor(float(np.asarray(picture)[0, 0, 0]))


def spoil(images: ImageSet, *positions: int) -> None:
    for position in positions:
        with open(images.pictures.paths[position], "w") as file:
            file.write("no picture")


def test_a_subset_of_a_subset_keeps_what_belongs_together(files):
    weighted = ImageSet(files.pictures, files.names, files.labels, files.class_names, np.arange(10) / 10)
    part = weighted.subset(np.array([9, 4, 5, 0])).subset(np.array([2, 0]))
    assert len(part) == 2
    assert part.own_names == [part.name(0), part.name(1)] == ["5.png", "9.png"]
    assert part.own_labels.tolist() == [1, 1]
    assert part.own_weights.tolist() == [0.5, 0.9]
    assert [np.asarray(part.picture(i))[0, 0, 0] for i in range(2)] == [5, 9]
    assert len(weighted) == 10


def test_a_set_without_weights_has_none(files):
    assert files.subset(np.array([1])).own_weights is None


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 6, 3)])
def test_pictures_in_arrays_are_rgb(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pictures = ArrayPictures(array)
    assert len(pictures) == 2
    shown = np.asarray(pictures[1])
    assert shown.shape == (4, 6, 3)
    assert (shown == (array[1] if array.ndim == 4 else array[1][..., None])).all()


def test_an_item_is_a_transformed_image_its_label_and_its_position(files):
    dataset = ClassificationDataset(files.subset(np.array([3, 8])), shade)
    assert len(dataset) == 2
    assert dataset[0] == (3, 1, 0)
    assert dataset[1] == (8, 0, 1)


def test_randomness_follows_from_the_seed_and_disturbs_nothing(files):
    dataset = ClassificationDataset(files, lambda _: torch.rand(1) + random.random() + np.random.rand())
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    undisturbed = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    values = [dataset[0, 2**62 + 5][0], dataset[0, 2**62 + 5][0], dataset[0, 2**62 + 6][0]]
    assert values[0] == values[1] != values[2]
    assert (torch.rand(1), random.random(), np.random.rand()) == undisturbed


def test_generators_are_put_back_after_an_error():
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(ZeroDivisionError), seeded(7):
        torch.rand(1), random.random(), np.random.rand(), 1 / 0
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_seeding_leaves_the_generators_of_gpus_alone(monkeypatch):
    def refuse(_):
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    with seeded(3):
        first = torch.rand(1)
    with seeded(3):
        assert torch.rand(1) == first


def test_batches_do_not_depend_on_the_workers(files):
    transform = Preprocessing(8, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3).training_transform(
        min_scale=0.3, hflip=0.5, vflip=0.5, color_jitter=0.4, auto_augment="rand-m9-mstd0.5", random_erasing=0.5
    )

    def batches(workers):
        sampler = EpochSampler(len(files), 3, seed=0)
        loader = DataLoader(ClassificationDataset(files, transform), 3, sampler=sampler, num_workers=workers)
        found = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            found += list(loader)
        return found

    alone, helped = batches(0), batches(2)
    assert len(alone) == len(helped) == 6
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(alone[0][0], alone[3][0])


def test_a_file_that_became_unreadable_is_replaced_by_the_next_and_named(files, caplog):
    dataset = ClassificationDataset(files, shade)
    spoil(files, 4, 5, 9)
    assert dataset[4] == (6, 0, 6)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert caplog.messages[0] == (
        "4.png can't be read and is replaced by the next: not an image file, or of an unknown format"
    )
    assert dataset[9] == (0, 0, 0)


def test_a_worker_says_which_file_it_replaced(files, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as outside pytest
    spoil(files, 4)
    loader = DataLoader(ClassificationDataset(files, shade), 5, num_workers=1)
    assert [batch[2].tolist() for batch in loader] == [[0, 1, 2, 3, 5], [5, 6, 7, 8, 9]]
    assert "4.png can't be read" in capfd.readouterr().err


def test_a_set_that_became_unreadable_altogether_is_an_error(files):
    spoil(files, *range(10))
    with pytest.raises(UnreadableImage, match=r"3\.png and the 9 images after it can't be read"):
        ClassificationDataset(files, shade)[3]


def test_unreadable_files_are_found_with_the_reason(files):
    spoil(files, 2, 7)
    calls = []
    found = files.subset(np.arange(9, 0, -1)).find_unreadable(progress=calls.append)
    assert found == {2: found[7], 7: "not an image file, or of an unknown format"}
    assert calls == list(range(1, 10))


def test_large_sets_are_looked_at_by_their_headers(files):
    path = files.pictures.paths[3]
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[:45])
    spoil(files, 5)
    assert sorted(files.find_unreadable()) == [3, 5]
    assert sorted(files.find_unreadable(full_up_to=9)) == [5]


def test_all_of_a_large_set_is_looked_at(files):
    spoil(files, 7)
    large = files.subset(np.arange(3000) % 10)
    assert sorted(large.find_unreadable()) == list(range(7, 3000, 10))


def test_the_search_keeps_few_images_waiting(files, monkeypatch):
    """A pool that was given all of ImageNet would need two gigabytes to remember what there is to do."""
    waiting, most = set(), [0]
    submit = ThreadPoolExecutor.submit

    def watch(pool, *args):
        future = submit(pool, *args)
        waiting.add(future)
        most[0] = max(most[0], len(waiting))
        future.add_done_callback(waiting.discard)
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", watch)
    files.subset(np.arange(5000) % 10).find_unreadable()
    assert 0 < most[0] <= 1024


def test_the_search_leaves_the_warning_filters_as_they_were(files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        files.subset(np.arange(2000) % 10).find_unreadable()
        assert warnings.filters == before


def test_pictures_that_are_no_files_are_all_readable():
    images = ImageSet(ArrayPictures(np.zeros((3, 4, 4), np.uint8)), list("abc"), np.zeros(3, int), ["a"])
    assert images.find_unreadable() == {}
