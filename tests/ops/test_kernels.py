"""The Triton kernels against the reference in float64: on a GPU where there is one, else in Triton's interpreter."""

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

from tests.helpers.operator_cases import attention, call, dynamic, multiscale

pytest.importorskip("triton", reason="the kernels need the package triton")

from transxnet import ops
from transxnet.ops import library
from transxnet.ops.kernels import attention as attention_kernels
from transxnet.ops.kernels import depthwise as depthwise_kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# What rounding the output alone costs is 2^-9 in bfloat16 and 2^-12 in float16; the attention rounds its shares too.
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
ATTENTION_BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
DTYPES = pytest.mark.parametrize("dtype", list(BOUNDS), ids=lambda dtype: str(dtype).removeprefix("torch."))


@pytest.fixture(autouse=True)
def _kernels_in_poisoned_memory(monkeypatch):
    """Take the kernels, and let memory that nothing has written yet hold NaN."""
    monkeypatch.setenv("TRANSXNET_OPS", "triton")
    empty, empty_strided = torch.empty, torch.empty_strided
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: _poison(empty(*args, **kwargs)))
    monkeypatch.setattr(torch, "empty_strided", lambda *args, **kwargs: _poison(empty_strided(*args, **kwargs)))


def _poison(t: Tensor) -> Tensor:
    return t.fill_(float("nan")) if t.is_floating_point() else t


def on_device(case, dtype: torch.dtype = torch.float32, channels_last: bool = False, parameters=("weight", "bias")):
    """The case on the device, its activations in the type and layout that are asked for."""
    operator, tensors = case
    moved = {}
    for name, t in tensors.items():
        t = t.to(DEVICE, torch.float32 if name.startswith(parameters) else dtype)
        moved[name] = t.contiguous(memory_format=torch.channels_last) if channels_last and name == "x" else t
    return operator, moved


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "case",
    [
        lambda: dynamic(2, 3, 4, 3, K=7),
        lambda: dynamic(1, 1, 1, 1, K=3),
        lambda: dynamic(1, 33, 8, 9, K=3, bias=False),
        lambda: multiscale(2, 5, 9, (3, 1), (2, 3), (2, 5), (1, 7)),
        lambda: multiscale(3, 1, 2, (5, 3)),
    ],
    ids=["odd", "one value", "beyond a tile", "four scales", "one scale"],
)
def test_convolutions_follow_the_reference(case, channels_last, assert_follows_the_reference):
    assert_follows_the_reference(on_device(case(), channels_last=channels_last), BOUNDS[torch.float32])


@DTYPES
@pytest.mark.parametrize("case", [lambda: dynamic(2, 3, 4, 5, K=3), lambda: multiscale(2, 4, 5, (3, 1), (2, 5))])
def test_convolutions_keep_float32_weights_and_sums_in_every_type(case, dtype, assert_follows_the_reference):
    assert_follows_the_reference(
        on_device(case(), dtype, channels_last=True), BOUNDS[dtype], weight_bound=BOUNDS[torch.float32]
    )


@DTYPES
@pytest.mark.parametrize(
    "sizes",
    [(2, 2, 7, 5, 6), (1, 1, 1, 1, 1), (3, 2, 65, 49, 24), (1, 2, 20, 130, 19), (2, 1, 9, 3, 40)],
    ids=["odd", "one value", "49 keys", "several blocks of keys", "wide heads"],
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_attention_follows_the_reference(sizes, bias, dtype, assert_follows_the_reference):
    if dtype is torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bfloat16 matrices as if their bits were integers; needs a GPU")
    case = on_device(attention(*sizes, bias=bias), dtype)
    assert_follows_the_reference(case, ATTENTION_BOUNDS[dtype], weight_bound=ATTENTION_BOUNDS[dtype])


CASES = pytest.mark.parametrize(
    "case",
    [lambda: dynamic(3, 2, 8, 2, K=3), lambda: multiscale(3, 8, 2, (2, 3), (1, 1)), lambda: attention(3, 2, 70, 5, 4)],
    ids=["dynamic", "multiscale", "attention"],
)


@CASES
@pytest.mark.parametrize("programs", [1, 1024])
def test_sums_in_few_and_many_parts_are_right_and_repeat_to_the_last_bit(
    case, programs, monkeypatch, assert_follows_the_reference
):
    for kernels in (depthwise_kernels, attention_kernels):
        monkeypatch.setattr(kernels, "WANTED_PROGRAMS", programs)
    operator, tensors = on_device(case())
    assert_follows_the_reference((operator, tensors), BOUNDS[torch.float32])
    leaves = [t.requires_grad_() for t in tensors.values()]

    def gradients():
        return torch.autograd.grad(call(ops, operator, tensors).square().sum(), leaves)

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


@CASES
def test_pieces_of_other_tensors_and_expanded_gradients_are_taken(case, assert_follows_the_reference):
    operator, tensors = on_device(case())
    pieces = {name: torch.cat([t, t + 1], dim=1)[:, : t.shape[1]] if t.ndim == 4 else t for name, t in tensors.items()}
    assert not pieces[next(iter(pieces))].is_contiguous()
    assert_follows_the_reference((operator, pieces), BOUNDS[torch.float32])
    x = next(iter(tensors.values())).requires_grad_()
    call(ops, operator, tensors).sum().backward()  # the gradient of a sum has no strides
    assert x.grad.isfinite().all()


@CASES
def test_an_empty_batch_gives_an_empty_result_that_can_be_differentiated(case):
    operator, tensors = on_device(case())
    batched = ("x", "q", "k", "v") + (("weight", "bias") if operator.startswith("dynamic") else ())
    tensors = {name: t[:0] if name in batched else t for name, t in tensors.items()}
    first = next(iter(tensors.values())).requires_grad_()
    out = call(ops, operator, tensors)
    out.sum().backward()
    assert out.shape == first.shape == first.grad.shape


def test_the_fused_gelu_is_that_of_the_plain_result():
    _, tensors = on_device(multiscale(2, 4, 5, (3, 1), (2, 3)))
    groups = [tensors["weight0"], tensors["weight1"]], [tensors["bias0"], tensors["bias1"]]
    plain = nn.functional.gelu(ops.multiscale_depthwise_conv2d(tensors["x"], *groups))
    torch.testing.assert_close(
        ops.multiscale_depthwise_conv2d(tensors["x"], *groups, gelu=True), plain, rtol=0, atol=2e-6
    )
    with torch.no_grad():
        fused = ops.multiscale_depthwise_conv2d(tensors["x"], *groups, gelu=True)
    torch.testing.assert_close(fused, plain, rtol=0, atol=2e-6)


@CASES
def test_the_operators_are_what_pytorch_expects_of_them(case):
    operator, tensors = on_device(case())
    leaves = {name: t.requires_grad_() for name, t in tensors.items()}
    if operator == "multiscale_depthwise_conv2d":
        arguments = leaves["x"], [leaves["weight0"], leaves["weight1"]], [leaves["bias0"], leaves["bias1"]], True, False
    else:
        arguments = tuple(leaves.values())
    opcheck(getattr(library, operator), arguments)


@CASES
def test_the_operators_compile_and_export_whole(case):
    operator, tensors = on_device(case())
    names = list(tensors)

    class Call(nn.Module):
        def forward(self, *values: Tensor) -> Tensor:
            return call(ops, operator, dict(zip(names, values, strict=True)))

    values = tuple(tensors.values())
    truth = Call()(*values)
    compiled = torch.compile(Call(), fullgraph=True, backend="aot_eager")(*values)
    assert torch.equal(compiled, truth)
    exported = torch.export.export(Call(), values)
    assert any("transxnet" in str(node.target) for node in exported.graph.nodes)
    assert torch.equal(exported.module()(*values), truth)


def test_under_autocast_the_operators_compute_in_its_type(assert_follows_the_reference):
    operator, tensors = on_device(dynamic(2, 3, 4, 5, K=3))
    with torch.autocast(DEVICE, torch.bfloat16):
        assert call(ops, operator, tensors).dtype == torch.bfloat16
