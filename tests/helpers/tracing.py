"""Compare two ways to run a network by their outputs, gradients and state."""

from torch import Tensor, nn


def trace(model: nn.Module, x: Tensor, run=None) -> dict[str, Tensor]:
    """Outputs, gradients and state of one forward and backward pass, by name; ``run`` replaces the model call."""
    x = x.detach().clone().requires_grad_()
    model.zero_grad()
    out = (model if run is None else run)(x)
    out.square().sum().backward()
    return {
        "output": out.detach(),
        "gradient of the input": x.grad,
        **{f"gradient of {name}": p.grad.clone() for name, p in model.named_parameters()},
        **{f"buffer {name}": b.clone() for name, b in model.named_buffers()},
    }


def assert_same(actual: dict[str, Tensor], truth: dict[str, Tensor], atol: float) -> None:
    assert actual.keys() == truth.keys()
    far = {n: (actual[n].double() - truth[n].double()).abs().max().item() for n in truth}
    assert {name: distance for name, distance in far.items() if not distance <= atol} == {}
