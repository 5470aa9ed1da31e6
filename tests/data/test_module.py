import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torchvision.transforms.functional import pil_to_tensor

from transxnet.data import sampler
from transxnet.data.image_set import ArrayPictures, ImageSet
from transxnet.data.module import ClassificationData, evaluation_loader
from transxnet.data.sources import Source


def numbered(count: int) -> ImageSet:
    """Pictures of which number i is solid in the value i and of class i % 3."""
    array = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    return ImageSet(ArrayPictures(array), [f"{i}" for i in range(count)], np.arange(count) % 3, ["a", "b", "c"])


def noisy(picture) -> torch.Tensor:
    return pil_to_tensor(picture) / 255 + torch.rand(1)


def plain(picture) -> torch.Tensor:
    return pil_to_tensor(picture) / 255


def data(workers: int = 0, train: int = 22, val: int = 7) -> ClassificationData:
    return ClassificationData(Source(numbered(train), numbered(val), False), noisy, plain, 4, workers, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_held_out_images_come_once_and_in_order(workers):
    batches = list(data(workers).val_dataloader())
    assert [len(labels) for _, labels, _ in batches] == [4, 3]
    positions = torch.cat([p for _, _, p in batches])
    assert positions.tolist() == list(range(7))
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == [0, 1, 2, 0, 1, 2, 0]
    images = torch.cat([image for image, _, _ in batches])
    assert images.shape == (7, 3, 4, 4)
    assert (images * 255).round()[:, 0, 0, 0].tolist() == list(range(7))


def test_training_images_come_shuffled_in_whole_batches():
    loader = data().train_dataloader()
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    positions = torch.cat([p for _, _, p in batches]).tolist()
    assert len(set(positions)) == 20
    assert positions != sorted(positions)
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == [p % 3 for p in positions]


def test_processes_share_the_held_out_images(monkeypatch):
    found = []
    for rank in range(3):
        monkeypatch.setattr(sampler, "world", lambda rank=rank: (rank, 3))
        found += [p for _, _, batch in evaluation_loader(numbered(8), plain, 2, 0) for p in batch.tolist()]
    assert sorted(found) == list(range(8))


def test_state_goes_on_where_it_stood():
    whole, resumed = data(), data()
    resumed.load_state_dict({"epoch": 1, "batches_done": 2})
    loaders = whole.train_dataloader(), resumed.train_dataloader()
    for loader in loaders:
        loader.sampler.set_epoch(1)
    expected, left = (list(loader) for loader in loaders)
    assert len(left) == 3
    for one, other in zip(expected[2:], left, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_state_without_a_trainer_is_what_was_loaded():
    fresh, resumed = data(), data()
    resumed.load_state_dict(fresh.state_dict())
    assert len(list(resumed.train_dataloader())) == 5
    resumed.load_state_dict({"epoch": 3, "batches_done": 1})
    assert resumed.state_dict() == {"epoch": 3, "batches_done": 1}


class Recorder(LightningModule):
    """Trains nothing worth having and remembers the batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[int], float]] = []

    def training_step(self, batch, _):
        images, _, positions = batch
        self.seen.append((self.current_epoch, positions.tolist(), images.sum().item()))
        return (self.weight * images.mean()).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Interruption(Exception):
    pass


class StopAfter(Callback):
    """Saves and stops after so many steps, at the end of the last one or of its epoch."""

    def __init__(self, steps: int, when: str, path):
        self.steps, self.path = steps, path
        setattr(self, when, self.stop)

    def stop(self, trainer, *_):
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
            raise Interruption


def fit(workers: int, checkpoint=None, callback: Callback | None = None) -> list[tuple[int, list[int], float]]:
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[callback] if callback else [],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        trainer.fit(recorder, data(workers), ckpt_path=checkpoint, weights_only=True)
    return recorder.seen


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("steps", "when"),
    [(steps, "on_train_batch_end") for steps in (1, 4, 5, 7, 10, 13)]
    + [(steps, "on_train_epoch_end") for steps in (5, 10)],
)
def test_an_interrupted_training_sees_what_an_uninterrupted_one_would(steps, when, workers, tmp_path):
    whole = fit(workers)
    assert [epoch for epoch, _, _ in whole] == [0] * 5 + [1] * 5 + [2] * 5
    path = tmp_path / "last.ckpt"
    with pytest.raises(Interruption):
        fit(workers, callback=StopAfter(steps, when, path))
    assert fit(workers, checkpoint=path) == whole[steps:]
