"""Batches of the three tasks, and exact resumption within an epoch."""

import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torchvision.transforms.functional import pil_to_tensor

from tests.helpers.annotated import box, image, write_coco, write_map
from tests.helpers.shards import (
    drawn,
    first_value,
)
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionDataset
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.datasets.segmentation_dataset import SegmentationDataset
from transxnet.data.loading import samplers
from transxnet.data.loading.data_modules import ClassificationData, DetectionData, SegmentationData
from transxnet.data.loading.dense_transforms import AlignedResize, detection_training, segmentation_training
from transxnet.data.loading.loaders import evaluation_loader
from transxnet.data.open_data import DataSource, open_data


def numbered(count: int) -> ClassificationSet:
    """Images with constant value i and class i % 3 for image i."""
    array = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    return ClassificationSet(ArrayImages(array), [f"{i}" for i in range(count)], ["a", "b", "c"], np.arange(count) % 3)


def noisy(image) -> torch.Tensor:
    return pil_to_tensor(image) / 255 + torch.rand(1)


def plain(image) -> torch.Tensor:
    return pil_to_tensor(image) / 255


def data(workers: int = 0, train: int = 22, val: int = 7) -> ClassificationData:
    return ClassificationData(numbered(train), numbered(val), noisy, plain, 4, workers, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_images_come_once_in_order(workers):
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


def test_processes_share_the_validation_images(monkeypatch):
    found = []
    for rank in range(3):
        monkeypatch.setattr(samplers, "world", lambda rank=rank: (rank, 3))
        loader = evaluation_loader(numbered(8).evaluation_dataset(plain), 2, 0)
        found += [position for _, _, batch in loader for position in batch.tolist()]
    assert sorted(found) == list(range(8))


def test_state_resumes_at_its_position():
    whole, resumed = data(), data()
    resumed.load_state_dict({"epoch": 1, "batches_done": 2})
    loaders = whole.train_dataloader(), resumed.train_dataloader()
    for loader in loaders:
        loader.sampler.set_epoch(1)
    expected, left = (list(loader) for loader in loaders)
    assert len(left) == 3
    for one, other in zip(expected[2:], left, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_state_without_a_trainer_is_the_loaded_one():
    fresh, resumed = data(), data()
    resumed.load_state_dict(fresh.state_dict())
    assert len(list(resumed.train_dataloader())) == 5
    resumed.load_state_dict({"epoch": 3, "batches_done": 1})
    assert resumed.state_dict() == {"epoch": 3, "batches_done": 1}


def summary(batch) -> list[float]:
    """What distinguishes batches: ids or indices, and all values."""
    if len(batch) == 3:
        return [*batch[2].tolist(), batch[0].sum().item(), batch[1].sum().item()]
    images, targets = batch
    return [
        *(t["image_id"] for t in targets),
        *(t["boxes"].sum().item() for t in targets),
        *(i.sum().item() for i in images),
    ]


class Recorder(LightningModule):
    """Trains a meaningless model and records the batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[float]]] = []

    def training_step(self, batch, _):
        self.seen.append((self.current_epoch, summary(batch)))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Interruption(Exception):
    pass


class StopAfter(Callback):
    """Save and stop after the given number of steps, at the end of the last step or of its epoch."""

    def __init__(self, steps: int, when: str, path):
        self.steps, self.path = steps, path
        setattr(self, when, self.stop)

    def stop(self, trainer, *_):
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
            raise Interruption


def fit(data, checkpoint=None, callback: Callback | None = None) -> list[tuple[int, list[float]]]:
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
        trainer.fit(recorder, data, ckpt_path=checkpoint, weights_only=True)
    return recorder.seen


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("steps", "when"),
    [(steps, "on_train_batch_end") for steps in (1, 4, 5, 7, 10, 13)]
    + [(steps, "on_train_epoch_end") for steps in (5, 10)],
)
def test_interrupted_training_sees_the_same_batches(steps, when, workers, tmp_path):
    whole = fit(data(workers))
    assert [epoch for epoch, _ in whole] == [0] * 5 + [1] * 5 + [2] * 5
    path = tmp_path / "last.ckpt"
    with pytest.raises(Interruption):
        fit(data(workers), callback=StopAfter(steps, when, path))
    assert fit(data(workers), checkpoint=path) == whole[steps:]


def of_shards(source: DataSource, batch_size: int, workers: int) -> ClassificationData:
    return ClassificationData(source.train, source.val, first_value, first_value, batch_size, workers, seed=5)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("lengths", [[13], [1, 9, 2, 1]])
def test_processes_and_workers_share_an_epoch_of_shards(shards, lengths, workers, monkeypatch):
    source = open_data(shards(train=lengths, validation=[2]), num_classes=3)
    epochs = []
    for epoch in range(4):
        together = []
        for rank in range(3):
            monkeypatch.setattr(samplers, "world", lambda rank=rank: (rank, 3))
            loader = of_shards(source, 2, workers).train_dataloader()
            loader.sampler.set_epoch(epoch)
            together += drawn(loader)
        assert len(together) == len(set(together)) == 12  # of 13, full batches on each process
        epochs.append(together)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set.union(*map(set, epochs)) == set(range(13))


def test_an_interrupted_epoch_of_shards_resumes_exactly(shards):
    source = open_data(shards(train=[9, 1, 14], validation=[2]), num_classes=3)
    whole, resumed = (of_shards(source, 4, 0) for _ in range(2))
    resumed.load_state_dict({"epoch": 1, "batches_done": 2})
    loaders = whole.train_dataloader(), resumed.train_dataloader()
    for loader in loaders:
        loader.sampler.set_epoch(1)
    assert drawn(loaders[1]) == drawn(loaders[0])[8:]


CATEGORY = [dict(id=7, name="cat")]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """22 training images (every third upright, every fifth with a crowd) and 7 validation images."""
    root = tmp_path_factory.mktemp("coco")
    for part, count in (("train", 22), ("val", 7)):
        images = [image(i, *((20, 30) if i % 3 == 0 else (30, 20))) for i in range(1, count + 1)]
        annotations = [
            box(10 * i + k, i, (k, 2, 5 + i / 4, 6), segmentation=[[1, 2, 9, 2, 9, 9]], iscrowd=int(i % 5 == k == 0))
            for i in range(1, count + 1)
            for k in range(2)
        ]
        write_coco(root / part / "annotations.json", images, annotations, CATEGORY, image_folder=root / part)
    return open_data(str(root), masks=True)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    root = tmp_path_factory.mktemp("maps")
    generator = np.random.default_rng(0)
    for part, count in (("train", 22), ("val", 7)):
        for i in range(count):
            values = generator.integers(0, 3, (20 + i, 30), dtype=np.uint8)
            write_map(root / "masks" / part / f"{i:02}.png", values, image_path=root / "images" / part / f"{i:02}.jpg")
    return open_data(str(root))


def detection(source, workers: int = 0, **options) -> DetectionData:
    return DetectionData(source.train, source.val, detection_training(photometric=True), 4, workers, seed=0, **options)


def segmentation(source, workers: int = 0) -> SegmentationData:
    transforms = segmentation_training(crop=16), AlignedResize((64, 16), 8)
    return SegmentationData(source.train, source.val, *transforms, 4, workers, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_images_come_once_in_order_with_crowds(workers, coco):
    batches = list(detection(coco, workers, masks=True).val_dataloader())
    assert [len(images) for images, _ in batches] == [4, 3]
    targets = [target for _, batch in batches for target in batch]
    assert [target["image_id"] for target in targets] == list(range(1, 8))
    assert targets[4]["iscrowd"].tolist() == [1, 0]
    assert [tuple(image.shape) for images, _ in batches for image in images][:3] == [(3, 20, 30)] * 2 + [(3, 30, 20)]
    assert all(target["masks"].shape[1:] == image.shape[1:] for b in batches for image, target in zip(*b, strict=True))


def test_training_batches_have_one_aspect_and_no_crowds(coco):
    loader = detection(coco).train_dataloader()
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    ids = [target["image_id"] for _, targets in batches for target in targets]
    assert len(set(ids)) == 20
    assert ids != sorted(ids)
    kinds = [{image.shape[2] > image.shape[1] for image in images} for images, _ in batches]
    assert sum(len(kind) > 1 for kind in kinds) <= 1
    assert all(len(target["boxes"]) == (1 if target["image_id"] % 5 == 0 else 2) for _, b in batches for target in b)
    assert not any("masks" in target for _, targets in batches for target in targets)
    ungrouped = detection(coco, group_by_aspect=False).train_dataloader()
    assert [t["image_id"] for _, targets in ungrouped for t in targets] != ids


def test_label_maps_come_in_batches(maps):
    data = segmentation(maps)
    batches = list(data.train_dataloader())
    assert len(batches) == 5
    assert all(images.shape == (4, 3, 16, 16) and labels.shape == (4, 16, 16) for images, labels, _ in batches)
    assert len({p for _, _, positions in batches for p in positions.tolist()}) == 20
    validation = list(data.val_dataloader())
    assert [p for _, _, positions in validation for p in positions.tolist()] == list(range(7))
    assert [tuple(labels.shape) for _, batch, _ in validation for labels in batch] == [(20 + i, 30) for i in range(7)]
    assert [tuple(image.shape) for image in validation[0][0]] == [(3, 16, 24)] * 4


def test_processes_share_annotated_validation_images(coco, maps, monkeypatch):
    ids, positions = [], []
    for rank in range(3):
        monkeypatch.setattr(samplers, "world", lambda rank=rank: (rank, 3))
        ids += [
            target["image_id"]
            for _, targets in evaluation_loader(DetectionDataset(coco.val), 2, 0)
            for target in targets
        ]
        loader = evaluation_loader(SegmentationDataset(maps.val, AlignedResize((64, 16))), 2, 0)
        positions += [p for _, _, batch in loader for p in batch.tolist()]
    assert sorted(ids) == list(range(1, 8))
    assert sorted(positions) == list(range(7))


def test_processes_train_on_different_images(coco, monkeypatch):
    ids = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "world", lambda rank=rank: (rank, 2))
        ids.append([target["image_id"] for _, targets in detection(coco).train_dataloader() for target in targets])
    assert [len(share) for share in ids] == [8, 8]
    assert not set(ids[0]) & set(ids[1])


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
@pytest.mark.parametrize(
    ("steps", "when", "workers"),
    [(1, "on_train_batch_end", 0), (7, "on_train_batch_end", 2), (5, "on_train_epoch_end", 0)],
)
def test_interrupted_dense_training_sees_the_same_batches(kind, steps, when, workers, coco, maps, tmp_path):
    def data():
        return detection(coco, workers, masks=True) if kind == "detection" else segmentation(maps, workers)

    whole = fit(data())
    assert [epoch for epoch, _ in whole] == [0] * 5 + [1] * 5 + [2] * 5
    assert whole[0][1] != whole[5][1]
    path = tmp_path / "last.ckpt"
    with pytest.raises(Interruption):
        fit(data(), callback=StopAfter(steps, when, path))
    assert fit(data(), checkpoint=path) == whole[steps:]


def test_dense_state_without_a_trainer_is_the_loaded_one(coco):
    data = detection(coco)
    data.load_state_dict({"epoch": 1, "batches_done": 2})
    assert data.state_dict() == {"epoch": 1, "batches_done": 2}
    assert len(list(data.train_dataloader())) == 3
