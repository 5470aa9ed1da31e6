"""The baseline under benchmarks/ computes the same network in a different way."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import transxnet
from benchmarks import plain_reference

SMALL = dict(depths=(1, 2, 1, 1), embed_dims=(16, 20, 32, 48), num_heads=(1, 2, 2, 3), num_groups=(2, 2, 3, 4))


@pytest.fixture
def pair(randomize) -> Callable[..., tuple[nn.Module, nn.Module]]:
    """TransXNet and the baseline in float64 with the same weights."""

    def make(name: str = "transxnet_n", **kwargs) -> tuple[nn.Module, nn.Module]:
        ours = randomize(transxnet.create_model(name, **kwargs)).double()
        plain = getattr(plain_reference, name)(**kwargs).double()
        plain.load_state_dict(ours.state_dict(), strict=True)
        return ours, plain

    return make


def close(actual: Tensor, expected: Tensor, scale: Tensor | None = None) -> None:
    """Check for differences of at most 1e-9 relative to the largest value."""
    largest = expected.abs().max() if scale is None else scale
    assert (actual - expected).abs().max() <= 1e-9 * largest


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        (dict(num_classes=7, **SMALL), (64, 96)),
        (dict(num_classes=7, img_size=64, **SMALL), (64, 64)),
        (dict(features_only=True, **SMALL), (64, 96)),
        (dict(features_only=True, out_indices=(1, 2), **SMALL), (65, 33)),
        (dict(num_classes=3, drop_path_rate=0.5, **SMALL), (64, 64)),
    ],
)
def test_outputs_and_gradients_match_our_network(pair, kwargs, size):
    ours, plain = pair(**kwargs)
    x = torch.randn(3, 3, *size, dtype=torch.float64)
    for training in (False, True):
        gradients = []
        for model in (ours, plain):
            torch.manual_seed(1)
            model.train(training).zero_grad()
            inputs = x.clone().requires_grad_()
            out = model(inputs)
            out = out if isinstance(out, list) else [out]
            torch.manual_seed(2)
            sum((o * torch.randn_like(o)).sum() for o in out).backward()
            gradients.append((out, {"images": inputs.grad} | {n: p.grad for n, p in model.named_parameters()}))
        (expected, true), (actual, mine) = gradients
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            close(a, b)
        assert mine.keys() == true.keys()
        # Some gradients are zero up to rounding, because a BatchNorm in training mode cancels their effect.
        largest = torch.stack([g.abs().max() for g in true.values()]).median()
        for name in true:
            assert mine[name] is not None, name
            close(mine[name], true[name], torch.maximum(true[name].abs().max(), 1e-3 * largest))
    for (name, a), b in zip(plain.named_buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=name)


def test_tiny_matches_our_tiny(pair):
    ours, plain = (model.eval() for model in pair("transxnet_t"))
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        close(plain(x), ours(x))


def test_recomputing_activations_changes_nothing(pair):
    _, plain = pair(**SMALL)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gradients = []
    for enabled in (False, True):
        plain.set_grad_checkpointing(enabled)
        plain.zero_grad()
        plain(x).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in plain.parameters()]))
    close(gradients[1], gradients[0])


@pytest.mark.parametrize("name", ["transxnet_n", "transxnet_t", "transxnet_s", "transxnet_b"])
def test_baseline_uses_no_custom_layer_or_operator(name):
    """A new custom layer needs a plain form too, or the baseline would change with the network it is compared with."""
    for module in getattr(plain_reference, name)().modules():
        assert not type(module).forward.__module__.startswith(("transxnet.layers", "transxnet.ops")), type(module)
    assert not [
        value for value in vars(plain_reference).values() if "transxnet.ops" in getattr(value, "__module__", "")
    ]


def test_every_block_resizes_the_stored_bias(pair, monkeypatch):
    _, plain = pair(**SMALL)
    resized = []
    whole = plain_reference.F.interpolate
    monkeypatch.setattr(
        plain_reference.F, "interpolate", lambda bias, **how: resized.append(how["size"]) or whole(bias, **how)
    )
    plain(torch.randn(2, 3, 64, 96, dtype=torch.float64))
    assert len(resized) == sum(SMALL["depths"])
