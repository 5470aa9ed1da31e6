"""Scripting of networks; tests/contracts compares the outputs."""

from functools import reduce
from operator import mul

import pytest
import torch
from torch import nn

from transxnet.models.scripting import ScriptedByTracing

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is deprecated:FutureWarning", "ignore:.*is deprecated:DeprecationWarning"
)


class Scale(ScriptedByTracing, nn.Module):
    """Scales its input, in training by a tenth, in a form that torch.jit.script cannot compile."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return reduce(mul, (x, self.factor, *((0.1,) if self.training else ())))


@pytest.mark.parametrize(("train", "expected"), [(True, 0.6), (False, 6.0)])
def test_script_holds_the_operators_of_the_mode(train, expected):
    model = Scale().train(train)
    assert torch.jit.script(model)(torch.tensor(3.0)).item() == pytest.approx(expected)


def test_script_keeps_the_names_of_parameters():
    assert list(torch.jit.script(Scale()).state_dict()) == ["factor"]
