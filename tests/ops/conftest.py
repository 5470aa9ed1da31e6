"""What the tests of the operators share: calls of each, and how closely a result must follow its truth."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from transxnet import ops
from transxnet.ops import reference


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape)


# Each case: the operator's name, what to call it with (by argument name), and how to call it with those.
def dynamic(B: int, C: int, H: int, W: int, K: int, bias: bool = True) -> tuple[str, dict[str, Tensor]]:
    tensors = {"x": rand(B, C, H, W), "weight": rand(B, C, K, K)}
    return "dynamic_depthwise_conv2d", tensors | ({"bias": rand(B, C)} if bias else {})


def multiscale(B: int, H: int, W: int, *groups: tuple[int, int]) -> tuple[str, dict[str, Tensor]]:
    tensors = {"x": rand(B, sum(C for C, _ in groups), H, W)}
    for i, (C, K) in enumerate(groups):
        tensors |= {f"weight{i}": rand(C, 1, K, K), f"bias{i}": rand(C)}
    return "multiscale_depthwise_conv2d", tensors


def attention(B: int, h: int, N: int, M: int, d: int, bias: bool = True) -> tuple[str, dict[str, Tensor]]:
    tensors = {"q": rand(B, h, N, d), "k": rand(B, h, M, d), "v": rand(B, h, M, d)}
    return "biased_attention", tensors | ({"bias": rand(1, h, N, M)} if bias else {})


def call(module, operator: str, tensors: dict[str, Tensor]) -> Tensor:
    if operator == "multiscale_depthwise_conv2d":
        groups = range(len(tensors) // 2)
        weights, biases = [tensors[f"weight{i}"] for i in groups], [tensors[f"bias{i}"] for i in groups]
        return module.multiscale_depthwise_conv2d(tensors["x"], weights, biases)
    return getattr(module, operator)(*tensors.values())


@pytest.fixture
def assert_follows_the_reference() -> Callable[..., None]:
    """Compare an operator's output and every gradient, by name, with the reference in float64.

    ``bound`` is for ``|got - truth| / |truth|`` over a whole tensor, for everything in the type of the input;
    ``weight_bound`` for the gradients of what is kept in float32.
    """

    def check(case: tuple[str, dict[str, Tensor]], bound: float, weight_bound: float | None = None, module=ops) -> None:
        operator, tensors = case
        leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}
        truths = {name: t.detach().double().requires_grad_() for name, t in tensors.items()}
        out, truth = call(module, operator, leaves), call(reference, operator, truths)
        assert out.dtype == next(iter(tensors.values())).dtype
        g = torch.randn_like(truth).to(out.dtype)
        got = dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), g), strict=True))
        want = dict(zip(truths, torch.autograd.grad(truth, list(truths.values()), g.double()), strict=True))
        for name, value, right in [("output", out, truth), *((name, got[name], want[name]) for name in leaves)]:
            limit = weight_bound if weight_bound and name != "output" and leaves[name].dtype != out.dtype else bound
            error = ((value.double() - right).norm() / right.norm().clamp_min(1e-30)).item()
            assert error <= limit, f"{operator}: {name} is off by {error:.1e}, allowed {limit:.0e}"  # NaN fails too

    return check
