"""Tolerance between an implementation of an operator and its reference."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.helpers.operator_cases import REFERENCES, Case, call
from transxnet import ops


@pytest.fixture
def assert_matches_reference() -> Callable[..., None]:
    """Compare a function's output and every gradient, by name, with the operator's reference in float64.

    The function is the public operator by default. ``bound`` limits ``|got - truth| / |truth|`` over a whole tensor,
    for everything in the dtype of the input; ``weight_bound`` limits it for the gradients of float32 parameters.
    """

    def check(
        case: Case, bound: float, weight_bound: float | None = None, function: Callable[..., Tensor] | None = None
    ) -> None:
        operator, tensors = case
        function = function or getattr(ops, operator)
        leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}
        truths = {name: t.detach().double().requires_grad_() for name, t in tensors.items()}
        out, truth = call(function, leaves), call(REFERENCES[operator], truths)
        assert out.dtype == next(iter(tensors.values())).dtype
        g = torch.randn_like(truth).to(out.dtype)
        got = dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), g), strict=True))
        want = dict(zip(truths, torch.autograd.grad(truth, list(truths.values()), g.double()), strict=True))
        for name, value, right in [("output", out, truth), *((name, got[name], want[name]) for name in leaves)]:
            limit = weight_bound if weight_bound and name != "output" and leaves[name].dtype != out.dtype else bound
            error = ((value.double() - right).norm() / right.norm().clamp_min(1e-30)).item()
            assert error <= limit, f"{operator}: {name} is off by {error:.1e}, allowed {limit:.0e}"  # NaN fails too

    return check
