import pytest
import torch

from transxnet.heads import create_detector
from transxnet.runs.task_configs import DetectConfig
from transxnet.training.detector import Detector

LOSSES = {
    "retinanet": {"classification", "bbox_regression"},
    "maskrcnn": {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"},
}


def make_detector(head: str) -> Detector:
    model = create_detector(head, "test_resnet", 2, min_size=64, max_size=64)
    return Detector(model, DetectConfig("squares", head=head, ema_decay=0.0))


def batch() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 8:40, 8:40] = True
    target = {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1]), "masks": masks,
        "area": torch.tensor([1024.0]), "iscrowd": torch.tensor([0]),
    }  # fmt: skip
    return [torch.randint(256, (3, 64, 64), dtype=torch.uint8)], [target]


@pytest.mark.parametrize("head", list(LOSSES))
def test_losses_are_finite_and_reach_every_weight(head):
    detector = make_detector(head).train()
    losses = detector.losses(batch())
    assert set(losses) == LOSSES[head]
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in detector.model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_perfect_detections_have_an_ap_of_one(monkeypatch):
    detector, (images, targets) = make_detector("retinanet").eval(), batch()
    answer = {"boxes": targets[0]["boxes"], "labels": targets[0]["labels"], "scores": torch.tensor([0.9])}
    monkeypatch.setattr(detector.model, "forward", lambda images: [answer])
    detector.validation_step((images, targets), 0)
    logged = {}
    detector.log_dict = lambda values, sync_dist: logged.update(values)
    detector.on_validation_epoch_end()
    assert {name: value.item() for name, value in logged.items()} == pytest.approx(
        {"val_ap": 1.0, "val_ap50": 1.0, "val_ap75": 1.0}, abs=1e-6
    )
