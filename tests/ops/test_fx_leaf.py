import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transxnet.ops.fx_leaf import fx_leaf


@fx_leaf()
def relu_if_negative(x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
    """A condition on values, which torch.fx cannot trace."""
    return scale * x.relu() if bool((x < 0).any()) else x


class Call(nn.Module):
    def __init__(self, by_name: bool):
        super().__init__()
        self.by_name = by_name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu_if_negative(x=x, scale=2.0) if self.by_name else relu_if_negative(x, scale=2.0)


@pytest.mark.parametrize("by_name", [False, True])
def test_call_is_recorded_as_one_node(by_name):
    traced = torch.fx.symbolic_trace(Call(by_name))
    assert [node.target for node in traced.graph.nodes if node.op == "call_function"] == [relu_if_negative]
    x = torch.tensor([-1.0, 3.0])
    assert traced(x).tolist() == relu_if_negative(x, scale=2.0).tolist() == [0.0, 6.0]


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning", "ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("scripted", "negative"), [(None, 2.0), (F.relu, 0.0)])
def test_script_compiles_the_plain_form(scripted, negative):
    @fx_leaf(scripted=scripted)
    def square(x: torch.Tensor) -> torch.Tensor:
        return x * x if x.sum() < 10 else x

    def call(x: torch.Tensor) -> torch.Tensor:
        return square(x)

    assert torch.jit.script(call)(torch.tensor([-(2.0**0.5)])).item() == pytest.approx(negative)


def test_function_keeps_its_name_and_description():
    assert relu_if_negative.__name__ == "relu_if_negative"
    assert relu_if_negative.__doc__.startswith("A condition")
