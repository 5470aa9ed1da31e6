import logging
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from transxnet.data.datasets.classification_dataset import ClassificationDataset, ClassificationSet
from transxnet.data.datasets.image_dataset import seeded
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.loading.samplers import EpochSampler
from transxnet.data.reading.image_decoding import UnreadableImage


def shade(image) -> torch.Tensor:
    return torch.tensor(float(np.asarray(image)[0, 0, 0]))


def spoil(images: ClassificationSet, *positions: int) -> None:
    for position in positions:
        with open(images.storage.paths[position], "w") as file:
            file.write("not an image")


def test_randomness_depends_on_the_seed_and_has_no_side_effects(files):
    dataset = ClassificationDataset(files, lambda _: torch.rand(1) + random.random() + np.random.rand())
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    undisturbed = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    values = [dataset[0, 2**62 + 5][0], dataset[0, 2**62 + 5][0], dataset[0, 2**62 + 6][0]]
    assert values[0] == values[1] != values[2]
    assert (torch.rand(1), random.random(), np.random.rand()) == undisturbed


def test_generators_are_restored_after_an_error():
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(ZeroDivisionError), seeded(7):
        torch.rand(1), random.random(), np.random.rand(), 1 / 0
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_seeding_does_not_change_gpu_generators(monkeypatch):
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


def test_an_unreadable_file_is_replaced_by_the_next_and_named(files, caplog):
    dataset = ClassificationDataset(files, shade)
    spoil(files, 4, 5, 9)
    assert dataset[4] == (6, 0, 6)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert caplog.messages[0] == (
        "cannot read 4.png, using the next image instead: not an image, or an unsupported format"
    )
    assert dataset[9] == (0, 0, 0)


def test_worker_reports_the_replaced_file(files, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as outside pytest
    spoil(files, 4)
    loader = DataLoader(ClassificationDataset(files, shade), 5, num_workers=1)
    assert [batch[2].tolist() for batch in loader] == [[0, 1, 2, 3, 5], [5, 6, 7, 8, 9]]
    assert "cannot read 4.png" in capfd.readouterr().err


def test_completely_unreadable_data_is_an_error(files):
    spoil(files, *range(10))
    with pytest.raises(UnreadableImage, match=r"cannot read 3\.png and the next 9 images"):
        ClassificationDataset(files, shade)[3]
