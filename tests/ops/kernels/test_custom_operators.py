"""The contract of custom operators: strides, empty batches, opcheck, torch.compile, torch.export, autocast."""

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

from tests.helpers.operator_cases import DEVICE, attention, call, dynamic, multiscale, on_device

pytest.importorskip("triton", reason="the kernels need the package triton")

from transxnet import ops
from transxnet.ops.attention import biased_attention_triton
from transxnet.ops.dynamic_conv import dynamic_depthwise_conv2d_triton
from transxnet.ops.multiscale_conv import multiscale_depthwise_conv2d_triton

BOUND = 2e-6
TRITON = {
    "dynamic_depthwise_conv2d": dynamic_depthwise_conv2d_triton,
    "multiscale_depthwise_conv2d": multiscale_depthwise_conv2d_triton,
    "biased_attention": biased_attention_triton,
}
CASES = pytest.mark.parametrize(
    "case",
    [
        pytest.param(lambda: dynamic(3, 2, 8, 2, K=3), id="dynamic"),
        pytest.param(lambda: multiscale(3, 8, 2, (2, 3), (1, 1)), id="multiscale", marks=pytest.mark.long),
        pytest.param(lambda: attention(3, 2, 70, 5, 4), id="attention"),
    ],
)


@CASES
def test_strided_inputs_and_expanded_gradients_are_accepted(case, assert_matches_reference):
    operator, tensors = on_device(case())
    pieces = {name: torch.cat([t, t + 1], dim=1)[:, : t.shape[1]] if t.ndim == 4 else t for name, t in tensors.items()}
    assert not pieces[next(iter(pieces))].is_contiguous()
    assert_matches_reference((operator, pieces), BOUND)
    x = next(iter(tensors.values())).requires_grad_()
    call(getattr(ops, operator), tensors).sum().backward()  # the gradient of a sum has no strides
    assert x.grad.isfinite().all()


@CASES
def test_empty_batch_gives_differentiable_empty_output(case):
    operator, tensors = on_device(case())
    batched = ("x", "q", "k", "v") + (("weight", "bias") if operator.startswith("dynamic") else ())
    tensors = {name: t[:0] if name in batched else t for name, t in tensors.items()}
    first = next(iter(tensors.values())).requires_grad_()
    out = call(getattr(ops, operator), tensors)
    out.sum().backward()
    assert out.shape == first.shape == first.grad.shape


@CASES
def test_custom_operators_pass_opcheck(case):
    operator, tensors = on_device(case())
    leaves = {name: t.requires_grad_() for name, t in tensors.items()}
    if operator == "multiscale_depthwise_conv2d":
        arguments = leaves["x"], [leaves["weight0"], leaves["weight1"]], [leaves["bias0"], leaves["bias1"]], True, False
    else:
        arguments = tuple(leaves.values())
    opcheck(TRITON[operator], arguments)


@CASES
def test_custom_operators_compile_and_export_whole(case):
    operator, tensors = on_device(case())
    names = list(tensors)

    class Call(nn.Module):
        def forward(self, *values: Tensor) -> Tensor:
            return call(getattr(ops, operator), dict(zip(names, values, strict=True)))

    values = tuple(tensors.values())
    truth = Call()(*values)
    compiled = torch.compile(Call(), fullgraph=True, backend="aot_eager")(*values)
    assert torch.equal(compiled, truth)
    exported = torch.export.export(Call(), values)
    assert any(f"transxnet.{operator}" in str(node.target) for node in exported.graph.nodes)
    assert torch.equal(exported.module()(*values), truth)


def test_autocast_sets_dtype_of_kernels():
    operator, tensors = on_device(dynamic(2, 3, 4, 5, K=3))
    with torch.autocast(DEVICE, torch.bfloat16):
        assert call(getattr(ops, operator), tensors).dtype == torch.bfloat16
