"""Mixed precision on the CPU: operations in half precision and in single precision."""

import math

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import transxnet
from tests.helpers.class_folders import QUICK
from transxnet.layers import IDConv
from transxnet.ops import biased_attention
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.training.train import train

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


NETWORK = {**QUICK, "model": "transxnet_n", "batch_size": 16, "epochs": 1}


@HALVES
def test_attention_with_overflowing_logits_takes_the_greatest(dtype):
    """Logits of +-1.4 million overflow float16; each query then attends only to the most similar key."""
    q = torch.eye(16)[None, None].to(dtype) * 60000
    v = torch.randn(1, 1, 16, 16).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        out = biased_attention(q, q / 600, v)
    torch.testing.assert_close(out, v, atol=0, rtol=0)


@HALVES
def test_attention_of_moderate_logits_equals_float64(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 9, 8).to(dtype) * s for s in (8, 8, 1))
    bias = torch.randn(1, 2, 9, 9)
    truth = (q.double() @ k.double().mT / math.sqrt(8) + bias.to(dtype).double()).softmax(-1) @ v.double()
    with torch.autocast("cpu", dtype=dtype):
        out = biased_attention(q, k, v, bias)
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), truth, atol=4 * rounding, rtol=0)


@HALVES
def test_norm_statistics_are_computed_in_single_precision(dtype):
    """65,504 is the largest float16 value: the sums and squares of these values are far above it."""
    x = torch.randn(4, 8, 32, 32, dtype=torch.float64) * 200 + 300
    narrow = x.to(dtype)
    for norm in (nn.BatchNorm2d(8), nn.GroupNorm(1, 8)):
        wide = norm.double()(narrow.double()).detach()
        norm = type(norm)(8) if isinstance(norm, nn.BatchNorm2d) else nn.GroupNorm(1, 8)
        with torch.autocast("cpu", dtype=dtype):
            out = norm(narrow)
        torch.testing.assert_close(out.double(), wide, atol=4 * 4 * torch.finfo(dtype).eps, rtol=0)
    assert norm.weight.dtype == torch.float32


@HALVES
def test_idconv_attention_sums_to_one(dtype):
    conv = IDConv(16).train()
    with torch.no_grad():
        conv.expand.weight.mul_(1e4)
    with torch.autocast("cpu", dtype=dtype):
        shares = conv.attention(torch.randn(4, 16, 7, 7))
    assert shares.isfinite().all()
    torch.testing.assert_close(shares.float().sum(1), torch.ones(4, 16, 7, 7), atol=torch.finfo(dtype).eps, rtol=0)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])


def backward(images: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, nn.Module]:
    torch.manual_seed(0)
    model = transxnet.create_model("transxnet_n", num_classes=3, img_size=32).train()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        logits = model(images)
    nn.functional.cross_entropy(logits.float(), torch.arange(len(images)) % 3).backward()
    return logits, model


@DTYPES
@pytest.mark.parametrize("value", [0.0, -2.1], ids=["gray", "black"])
def test_constant_image_in_a_batch_gives_finite_gradients(dtype, value):
    images = torch.randn(6, 3, 32, 32)
    images[0] = value  # in normalized values
    logits, model = backward(images, dtype)
    assert logits.isfinite().all()
    assert [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()] == []
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_batch_of_one_color_gives_finite_logits_only():
    """Each BatchNorm divides by the square root of its epsilon, 1/316, and there are a hundred in sequence."""
    logits, model = backward(torch.full((6, 3, 32, 32), -2.1), torch.float32)
    assert logits.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in model.buffers())
    assert any(not p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.eval()(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_black_images_make_no_update(tmp_path, quiet):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (32, 32)).save(tmp_path / "photos" / name / f"{i}.png")
    options = {**NETWORK, "batch_size": 8, "drop_path_rate": 0.0, "color_jitter": 0.0}
    with pytest.raises(NonFiniteLoss, match="All updates of the epoch were skipped"):
        train(tmp_path / "photos", out=tmp_path / "run", console=quiet, **options)


def test_bfloat16_trains_without_scaler_on_cpu(photos, tmp_path, quiet):
    run = train(photos, out=tmp_path / "run", precision="bf16-mixed", lr=1e-3, console=quiet, **NETWORK)
    rows = run.read_metrics()
    assert rows[0]["skipped"] == 0
    best = max(rows, key=lambda row: row["val_accuracy"])
    for name in ("accuracy", "balanced_accuracy", "f1"):  # validation is in float32, as the results
        assert run.results[name] == best[f"val_{name}"]
    wide_and_finite(run)
    assert "MixedPrecision" not in torch.load(run.last_checkpoint, weights_only=True)


@pytest.mark.long
@pytest.mark.parametrize("model", ["test_resnet", "transxnet_n"])
def test_float16_trains_with_scaler_on_cpu(photos, tmp_path, quiet, model):
    """Slow: most CPUs have no float16 arithmetic."""
    options = {**NETWORK, "model": model, "epochs": 2, "batch_size": 8}
    run = train(photos, out=tmp_path / "run", precision="16-mixed", lr=1e-3, console=quiet, **options)
    skipped = sum(row["skipped"] for row in run.read_metrics())
    assert skipped < 8
    wide_and_finite(run)
    scaler = torch.load(run.last_checkpoint, weights_only=True)["MixedPrecision"]
    assert scaler["scale"] == 65536 / 2**skipped  # halved each time


def wide_and_finite(run) -> None:
    for tensor in load_file(run.weights_file).values():
        assert tensor.dtype in (torch.float32, torch.int64)
        assert tensor.isfinite().all()


def test_batch_of_one_is_refused_by_batchnorm_at_1x1():
    """At 1x1 the variance over one image is always zero; PyTorch raises an error, and so do we."""
    model = transxnet.create_model("transxnet_n", num_classes=3, img_size=32).train()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        model(torch.randn(1, 3, 32, 32))
    assert model.eval()(torch.randn(1, 3, 32, 32)).isfinite().all()
