"""How closely a result of an operator must follow its truth."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.helpers.operator_cases import call
from transxnet import ops
from transxnet.ops import reference


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
