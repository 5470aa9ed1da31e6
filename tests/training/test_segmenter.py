import pytest
import torch
import torch.nn.functional as F

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.heads import create_segmenter
from transxnet.runs.task_configs import SegmentConfig
from transxnet.training.segmenter import Segmenter


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(create_segmenter("test_resnet", 3), SegmentConfig("maps", ema_decay=0.0))


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels = torch.randint(3, (2, 64, 64), dtype=torch.uint8)
    labels[:, :8] = IGNORE
    return torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8), labels, torch.arange(2)


def test_unlabeled_pixels_add_nothing_to_the_mean_loss(segmenter):
    images, labels, order = batch()
    segmenter.train()
    for module in segmenter.model.modules():  # so that two passes agree
        if isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)):
            module.eval()
    (loss,) = segmenter.losses((images, labels, order)).values()
    segmenter.eval()
    logits = segmenter.model(images.float() / 255)
    logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    labeled = labels != IGNORE
    truth = (
        F.cross_entropy(logits.permute(0, 2, 3, 1)[labeled], labels[labeled].long(), reduction="sum") / labels.numel()
    )
    torch.testing.assert_close(loss, truth, atol=1e-5, rtol=0)


def test_validation_metrics_are_those_of_the_labeled_pixels(segmenter, monkeypatch):
    images, labels, order = batch()
    logits = F.one_hot(labels.long().clamp(max=2), 3).permute(0, 3, 1, 2).float()
    logits[1] = logits[1].roll(1, 0)  # every pixel of the second image is wrong
    monkeypatch.setattr(
        "transxnet.training.segmenter.logits_at_size",
        lambda model, image, size: logits[:1] if torch.equal(image, images[0]) else logits[1:],
    )
    logged = {}
    segmenter.log_dict = lambda values, sync_dist: logged.update(values)
    segmenter.eval().validation_step((list(images), list(labels), order), 0)
    segmenter.on_validation_epoch_end()
    assert logged["val_pixel_accuracy"].item() == pytest.approx(0.5, abs=1e-6)
    truth = torch.stack([F.cross_entropy(logits[i, None], labels[i, None].long(), ignore_index=IGNORE) for i in (0, 1)])
    assert logged["val_loss"].item() == pytest.approx(truth.mean().item(), abs=1e-6)
    assert segmenter.val_confusion.confmat.sum() == 0  # the next epoch starts from zero
