import pytest
import torch

from transxnet.data.loading.samplers import seed_step
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
    monkeypatch.setattr(
        detector.model,
        "forward",
        lambda images, targets=None: [answer] if targets is None else {"loss": torch.tensor(0.5)},
    )
    detector.validation_step((images, targets), 0)
    logged = {}
    detector.log_dict = lambda values, sync_dist: logged.update(values)
    detector.on_validation_epoch_end()
    assert {name: value.item() for name, value in logged.items()} == pytest.approx(
        {"val_loss": 0.5, "val_ap": 1.0, "val_ap50": 1.0, "val_ap75": 1.0}, abs=1e-6
    )


@pytest.mark.parametrize("head", list(LOSSES))
def test_validation_loss_is_that_of_training_with_fixed_norms(head):
    detector, (images, targets) = make_detector(head).eval(), batch()
    crowd = {name: torch.cat([value, value]) for name, value in targets[0].items()} | {"iscrowd": torch.tensor([0, 1])}
    before = {name: value.clone() for name, value in detector.model.state_dict().items()}
    logged = {}
    detector.log_dict = lambda values, sync_dist: logged.update(values)
    with torch.no_grad():
        detector.validation_step((images, [crowd]), 0)
    detector.on_validation_epoch_end()
    assert not any(module.training for module in detector.modules())
    torch.testing.assert_close(detector.model.state_dict(), before)
    detector.model.train()
    for module in detector.model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    seed_step(detector.config.seed, 0)
    assert logged["val_loss"].item() == pytest.approx(sum(detector.losses((images, targets)).values()).item(), rel=1e-4)
