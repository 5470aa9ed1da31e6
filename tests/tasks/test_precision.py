"""Mixed precision on the CPU: what is narrow and what stays wide."""

import math

import pytest
import torch
from photographs import QUICK
from safetensors.torch import load_file
from torch import nn

import transxnet
from transxnet.layers import IDConv
from transxnet.ops import biased_attention
from transxnet.tasks.train import train

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
NETWORK = {**QUICK, "model": "transxnet_n", "batch_size": 16, "epochs": 1}


@HALVES
def test_attention_with_logits_beyond_the_type_is_that_of_the_greatest(dtype):
    """Logits of +-1.4 million overflow float16; each query then sees the one key that is like it."""
    q = torch.eye(16)[None, None].to(dtype) * 60000
    v = torch.randn(1, 1, 16, 16).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        out = biased_attention(q, q / 600, v)
    torch.testing.assert_close(out, v, atol=0, rtol=0)


@HALVES
def test_attention_of_moderate_logits_is_that_of_float64_to_the_type_s_rounding(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 9, 8).to(dtype) * s for s in (8, 8, 1))
    bias = torch.randn(1, 2, 9, 9)
    truth = (q.double() @ k.double().mT / math.sqrt(8) + bias.to(dtype).double()).softmax(-1) @ v.double()
    with torch.autocast("cpu", dtype=dtype):
        out = biased_attention(q, k, v, bias)
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), truth, atol=4 * rounding, rtol=0)


@HALVES
def test_the_statistics_of_norms_stay_wide(dtype):
    """65,504 is the largest float16: the sums and squares of these values are far beyond it."""
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
def test_the_shares_of_idconv_add_up_to_one(dtype):
    conv = IDConv(16).train()
    with torch.no_grad():
        conv.expand.weight.mul_(1e4)
    with torch.autocast("cpu", dtype=dtype):
        shares = conv.attention(torch.randn(4, 16, 7, 7))
    assert shares.isfinite().all()
    torch.testing.assert_close(shares.float().sum(1), torch.ones(4, 16, 7, 7), atol=torch.finfo(dtype).eps, rtol=0)


@HALVES
@pytest.mark.parametrize("value", [0.0, 1.0, -2.0], ids=["black", "white", "dark"])
def test_constant_images_give_numbers_and_gradients(dtype, value):
    torch.manual_seed(0)
    model = transxnet.create_model("transxnet_n", num_classes=3, img_size=32).train()
    with torch.autocast("cpu", dtype=dtype):
        logits = model(torch.full((4, 3, 32, 32), value))
    loss = torch.nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1, 2, 0]))
    (loss * 1024).backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()] == []
    assert all(buffer.isfinite().all() for buffer in model.buffers())


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_on_the_cpu(photos, tmp_path, quiet, precision):
    run = train(photos, out=tmp_path / "run", precision=precision, lr=1e-3, console=quiet, **NETWORK)
    row = run.read_metrics()[0]
    assert row["skipped"] == 0
    assert all(tensor.isfinite().all() for tensor in load_file(run.weights_file).values())
    assert all(t.dtype == torch.float32 for t in load_file(run.weights_file).values() if t.is_floating_point())
    scaler = torch.load(run.last_checkpoint, weights_only=True).get("MixedPrecision")
    assert (scaler == {}) if precision == "bf16-mixed" else scaler["scale"] >= 1


def test_a_batch_of_one_is_refused_where_a_norm_would_have_a_single_value():
    """At 1x1 the variance over one image is zero, whatever it shows; PyTorch refuses, and so do we."""
    model = transxnet.create_model("transxnet_n", num_classes=3, img_size=32).train()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        model(torch.randn(1, 3, 32, 32))
    assert model.eval()(torch.randn(1, 3, 32, 32)).isfinite().all()
