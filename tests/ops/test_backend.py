"""The selected implementation, and the reported reasons."""

import pytest
import torch

from transxnet import UserError, ops
from transxnet.ops import backend, choose
from transxnet.ops.backend import is_transforming
from transxnet.ops.kernels.c_library import why_unavailable

DYNAMIC, MULTISCALE, ATTENTION = "dynamic_depthwise_conv2d", "multiscale_depthwise_conv2d", "biased_attention"

needs_c = pytest.mark.skipif(bool(why_unavailable()), reason="needs a C compiler")


@pytest.fixture(autouse=True)
def _no_requested_backend(monkeypatch):
    monkeypatch.delenv("TRANSXNET_OPS", raising=False)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(backend, "why_unavailable", lambda: "there is no C compiler on this machine")


@needs_c
@pytest.mark.parametrize("operator", [DYNAMIC, MULTISCALE])
def test_cpu_takes_c_kernel(operator):
    for dtype in (torch.float32, torch.bfloat16):
        assert choose(operator, torch.zeros(1, dtype=dtype)).implementation == "c"
    assert choose(operator, torch.zeros(1).double()).implementation == "reference"
    assert choose(operator, torch.zeros(0)).implementation == "cpu"
    with torch.no_grad():
        assert choose(operator, torch.zeros(1)).implementation == "c"


def test_without_compiler_training_takes_cpu_backward_pass(no_compiler):
    assert choose(DYNAMIC, torch.zeros(1)).implementation == "cpu"
    assert choose(MULTISCALE, torch.zeros(1)).implementation == "cpu"
    assert choose(DYNAMIC, torch.zeros(1)).refused["c"] == "there is no C compiler on this machine"


def test_attention_on_cpu_takes_cpu_form():
    assert choose(ATTENTION, torch.zeros(1)).implementation == "cpu"


def test_every_refused_implementation_has_a_reason(no_compiler):
    with torch.no_grad():
        choice = choose(DYNAMIC, torch.zeros(1))
    assert choice.implementation == "reference"
    assert set(choice.refused) == {"triton", "c", "cpu"}
    assert "backward" in choice.refused["cpu"]
    assert "float32 only, not in float64" in choose(DYNAMIC, torch.zeros(1).double()).refused["cpu"]
    assert "CPU" in choose(DYNAMIC, torch.zeros(1, device="meta")).refused["cpu"]


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_environment_variable_forces_choice(name, monkeypatch):
    monkeypatch.setenv("TRANSXNET_OPS", name)
    choice = choose(MULTISCALE, torch.zeros(1).double())
    assert choice.implementation == name
    assert all(f"TRANSXNET_OPS={name}" in reason for reason in choice.refused.values())


def test_impossible_choice_raises_with_reason(monkeypatch):
    monkeypatch.setenv("TRANSXNET_OPS", "triton")
    with pytest.raises(UserError, match=r"TRANSXNET_OPS=triton is not supported by .*not float64. Unset it"):
        ops.dynamic_depthwise_conv2d(torch.zeros(1, 1, 3, 3).double(), torch.zeros(1, 1, 3, 3))
    monkeypatch.setenv("TRANSXNET_OPS", "cpu")
    with pytest.raises(UserError, match="it supports CPUs only, the tensor is on meta"):
        ops.biased_attention(*(torch.zeros(1, 1, 2, 2, device="meta") for _ in range(3)))
    monkeypatch.setenv("TRANSXNET_OPS", "fast")
    with pytest.raises(UserError, match="must be auto, triton, c, cpu, reference, got 'fast'"):
        choose(DYNAMIC, torch.zeros(1))


def test_kernels_without_gpu_are_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = choose(DYNAMIC, torch.zeros(1)).refused["triton"]
    assert "CUDA" in reason or "not installed" in reason


def test_exported_programs_hold_plain_operators():
    class Call(torch.nn.Module):
        def forward(self, x, weight):
            return ops.dynamic_depthwise_conv2d(x, weight)

    exported = torch.export.export(Call(), (torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5, 5)))
    assert not any("transxnet" in str(node.target) for node in exported.graph.nodes)


def test_transformed_attention_takes_reference():
    assert not is_transforming()

    def function(x):
        choice = choose(ATTENTION, x)
        assert is_transforming()
        assert choice.implementation == "reference"
        assert "torch.func" in choice.refused["cpu"]
        assert choose(DYNAMIC, x).implementation == "cpu"
        return x

    torch.func.vmap(function)(torch.zeros(2, 1))
    with torch.autograd.forward_ad.dual_level():
        function(torch.zeros(1))


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_traced_programs_hold_plain_operators():
    class Call(torch.nn.Module):
        def forward(self, x, weight):
            return ops.dynamic_depthwise_conv2d(x, weight)

    x, weight = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5, 5).requires_grad_()
    traced = torch.jit.trace(Call(), (x, weight))
    assert "PythonOp" not in str(traced.graph)
    torch.testing.assert_close(traced(x, weight), Call()(x, weight))
