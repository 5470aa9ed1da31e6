import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.shapes import two_images
from transxnet.heads import SemanticFPN
from transxnet.heads.semantic_fpn import SemanticFPNHead


@pytest.fixture
def model(body) -> SemanticFPN:
    return SemanticFPN(body(), num_classes=3)


def test_every_parameter_learns(any_body):
    model = SemanticFPN(any_body(), num_classes=3).train()
    losses = model(torch.rand(2, 3, 64, 96), torch.randint(0, 3, (2, 64, 96)))
    assert set(losses) == {"cross_entropy"}
    losses["cross_entropy"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@torch.no_grad()
def test_head_matches_the_paper():
    """Kirillov et al., Fig. 3: each step has a convolution, a norm, a ReLU and 2x upsampling; the sum is classified."""
    head = SemanticFPNHead(num_classes=5).eval()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    state = head.state_dict()
    features = [torch.randn(2, 256, 64 >> i, 96 >> i) for i in (2, 3, 4, 5)]

    def step(x: Tensor, name: str) -> Tensor:
        x = F.conv2d(x, state[f"{name}.0.weight"], padding=1)
        norm = [state[f"{name}.1.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm).relu()

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    total = step(features[0], "scale_heads.0.0")
    total = total + enlarge(step(features[1], "scale_heads.1.0"))
    total = total + enlarge(step(enlarge(step(features[2], "scale_heads.2.0")), "scale_heads.2.2"))
    x = features[3]
    for i in (0, 2, 4):
        x = enlarge(step(x, f"scale_heads.3.{i}"))
    truth = F.conv2d(total + x, state["classifier.weight"], state["classifier.bias"])
    assert truth.shape == (2, 5, 16, 24)
    assert total.shape[1] == 128
    torch.testing.assert_close(head(features), truth, rtol=0, atol=1e-5)


def test_whole_channels_are_dropped_in_training(body):
    assert isinstance(SemanticFPN(body(), 3).head.dropout, nn.Dropout2d)
    assert SemanticFPN(body(), 3).head.dropout.p == 0.1


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (33, 95), (7, 200), (1, 1), (32, 300)])
def test_every_pixel_of_an_image_of_any_size_has_its_logits(model, size):
    assert model.eval()(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@torch.no_grad()
def test_the_image_is_padded_with_the_mean_at_right_and_bottom(model):
    image = torch.rand(1, 3, 40, 70)
    padded = model.mean.expand(1, 3, 64, 96).clone()
    padded[:, :, :40, :70] = image
    torch.testing.assert_close(model.eval()(image), model(padded)[:, :, :40, :70], rtol=0, atol=1e-5)


@torch.no_grad()
def test_logits_are_upsampled_from_a_quarter_of_the_size(model, monkeypatch):
    small = torch.randn(1, 3, 16, 24)
    monkeypatch.setattr(model.head, "forward", lambda features: small)
    truth = F.interpolate(small, (64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model.eval()(torch.rand(1, 3, 64, 96)), truth, rtol=0, atol=1e-6)


def test_ignored_pixels_add_nothing_to_the_mean_over_all(model, monkeypatch):
    """As in mmsegmentation 0.x: they count in the denominator."""
    monkeypatch.setattr(model.head, "forward", lambda features: torch.zeros(1, 3, 8, 8, requires_grad=True))
    targets = torch.zeros(1, 32, 32, dtype=torch.int64)
    targets[:, :8] = 255
    model.eval()
    assert model(torch.rand(1, 3, 32, 32), targets)["cross_entropy"].item() == pytest.approx(0.75 * math.log(3))
    loss = model(torch.rand(1, 3, 32, 32), torch.full_like(targets, 255))["cross_entropy"]
    assert loss == 0
    loss.backward()


def test_ignored_label_can_be_chosen(body, monkeypatch):
    model = SemanticFPN(body(), num_classes=3, ignore_index=2).eval()
    monkeypatch.setattr(model.head, "forward", lambda features: torch.zeros(1, 3, 8, 8))
    assert model(torch.rand(1, 3, 32, 32), torch.full((1, 32, 32), 2))["cross_entropy"] == 0


def test_one_class_works(body):
    model = SemanticFPN(body(), num_classes=1).train()
    assert model(torch.rand(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.int64))["cross_entropy"] == 0


def test_half_precision_keeps_logits_and_loss_in_float32(model):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(torch.rand(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.int64))["cross_entropy"]
        with torch.no_grad():
            logits = model.eval()(torch.rand(1, 3, 64, 64))
    assert loss.dtype == logits.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (torch.zeros(3, 64, 64), None, r"must be a float tensor \(B, 3, H, W\) .*, got float32 \(3, 64, 64\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None, r"values in 0 to 1, got uint8 \(1, 3, 8, 8\)"),
        (
            torch.zeros(1, 3, 8, 8),
            torch.zeros(1, 8, 9, dtype=torch.int64),
            r"int64 \(1, 8, 8\), .* int64 \(1, 8, 9",
        ),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8), r"int64 \(1, 8, 8\), one label per pixel, got float32"),
    ],
)
def test_invalid_input_is_an_error(model, images, targets, message):
    with pytest.raises(ValueError, match=message):
        model(images, targets)


@pytest.mark.long
def test_overfits_two_images(model):
    torch.manual_seed(0)
    images, targets = two_images()
    images = torch.stack([F.pad(image, (0, 96 - image.shape[2])) for image in images])
    labels = torch.full((2, 96, 96), 255)
    for label_map, target, width in zip(labels, targets, (96, 80), strict=True):
        label_map[:, :width] = 0
        for label, mask in zip(target["labels"], target["masks"], strict=True):
            label_map[:, :width][mask] = label
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, fused=True)
    for _ in range(40):
        optimizer.zero_grad()
        model.train()(images, labels)["cross_entropy"].backward()
        optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(images).argmax(1)
    counted = labels != 255
    for label in range(3):
        both, either = (predicted == label) & (labels == label), ((predicted == label) | (labels == label)) & counted
        assert both.sum() / either.sum() > 0.9
