"""The Triton attention kernels against the reference in float64."""

import pytest
import torch

from tests.helpers.operator_cases import DEVICE, attention, call, on_device

pytest.importorskip("triton", reason="the kernels need the package triton")

from transxnet.ops import biased_attention
from transxnet.ops.kernels import attention_kernels

# Rounding the output alone costs 2^-9 in bfloat16 and 2^-12 in float16; attention also rounds its probabilities.
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(
    "sizes",
    [(2, 2, 7, 5, 6), (1, 1, 1, 1, 1), (3, 2, 65, 49, 24), (1, 2, 20, 130, 19), (2, 1, 9, 3, 40)],
    ids=["odd", "one value", "49 keys", "several blocks of keys", "wide heads"],
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_attention_kernels_match_reference(sizes, bias, dtype, assert_matches_reference):
    if dtype is torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bfloat16 matrices as if their bits were integers; needs a GPU")
    case = on_device(attention(*sizes, bias=bias), dtype)
    assert_matches_reference(case, BOUNDS[dtype], weight_bound=BOUNDS[dtype])


@pytest.mark.parametrize("programs", [1, 1024])
def test_split_sums_are_correct_and_repeat_bit_by_bit(programs, monkeypatch, assert_matches_reference):
    monkeypatch.setattr(attention_kernels, "TARGET_PROGRAMS", programs)
    operator, tensors = on_device(attention(3, 2, 70, 5, 4))
    assert_matches_reference((operator, tensors), BOUNDS[torch.float32])
    leaves = [t.requires_grad_() for t in tensors.values()]

    def gradients():
        return torch.autograd.grad(call(biased_attention, tensors).square().sum(), leaves)

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))
