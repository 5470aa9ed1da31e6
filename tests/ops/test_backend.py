"""The selected implementation, and the reported reasons."""

from importlib.util import find_spec
from unittest.mock import ANY

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from transxnet import UserError, ops
from transxnet.ops import backend, choose
from transxnet.ops.backend import is_transforming, record_choices
from transxnet.ops.kernels.c_library import why_unavailable
from transxnet.ops.measured_choice import KernelComparison, Outcome
from transxnet.ops.operator_trial import compare

DYNAMIC, MULTISCALE, ATTENTION = "dynamic_depthwise_conv2d", "multiscale_depthwise_conv2d", "biased_attention"

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")
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


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Treat the CPU as a GPU, with kernels in the interpreter, an empty cache folder and given times."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    capability = torch.compiler.assume_constant_result(lambda device, index: (9, 0))
    monkeypatch.setattr(backend, "_capability", capability)
    times = {"kernel": 1.0, "plain": 2.0, "calls": 0}

    def compare(run, arguments, training):
        times["calls"] += 1
        return KernelComparison(Outcome(0.0, times["kernel"]), Outcome(0.0, times["plain"]), 1e-5)

    monkeypatch.setattr(backend, "compare", compare)
    backend.device_store.cache_clear()
    backend._warn_not_measured.cache_clear()
    yield times
    backend.device_store.cache_clear()


@needs_triton
def test_gpu_takes_faster_implementation(gpu):
    x, weight = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 3)
    with torch.no_grad():
        assert choose(DYNAMIC, x, weight, None, run=ANY).implementation == "triton"
        gpu["kernel"] = 3.0
        assert choose(DYNAMIC, x, weight, None, run=ANY).implementation == "triton"  # remembered
        choice = choose(DYNAMIC, x.bfloat16(), weight, None, run=ANY)
    assert choice.implementation != "triton"
    assert choice.refused["triton"] == "it is slower here: the kernel takes 3.000 ms, PyTorch's operators 2.000"
    assert gpu["calls"] == 2


@needs_triton
def test_training_is_measured_separately(gpu):
    x, weight = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 3)
    with record_choices() as records:
        for tensor in (x, x.clone().requires_grad_(), x.clone().requires_grad_()):
            choose(DYNAMIC, tensor, weight, None, run=ANY)
    assert gpu["calls"] == 2
    assert [" train " in record.inputs for record in records] == [False, True, True]
    assert records[0].comparison == records[2].comparison


@needs_triton
def test_nothing_is_measured_where_choices_are_fixed(gpu):
    x, weight = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 3)

    def chosen(*tensors, run=ANY):
        choice = choose(DYNAMIC, *tensors, run=run)
        assert choice.implementation == "triton" or "not measured" in choice.refused["triton"]
        return choice.implementation

    torch.use_deterministic_algorithms(True)
    try:
        assert chosen(x, weight, None) != "triton"
    finally:
        torch.use_deterministic_algorithms(False)
    assert chosen(x, weight, None, run=None) != "triton"
    with FlopCounterMode(display=False):
        assert chosen(x, weight, None) != "triton"
    assert gpu["calls"] == 0
    assert chosen(x, weight, None) == "triton"
    torch.use_deterministic_algorithms(True)
    try:
        assert chosen(x, weight, None) == "triton"  # the remembered choice
    finally:
        torch.use_deterministic_algorithms(False)


@needs_triton
def test_compiled_code_takes_remembered_choice(gpu):
    def function(x, weight):
        choice = choose(DYNAMIC, x, weight, None, run=None)
        return x * 2 if choice.implementation == "triton" else x

    x, weight = torch.ones(10, 3, 4, 4), torch.randn(10, 3, 3, 3)
    with pytest.warns(UserWarning, match=r"have not been measured.*doctor --measure"):
        assert torch.compile(function, backend="eager", fullgraph=True)(x, weight).max() == 1
    choose(DYNAMIC, x, weight, None, run=ANY)
    torch.compiler.reset()
    compiled = torch.compile(function, backend="eager", fullgraph=True, dynamic=True)
    for batch in (10, 12, 16):  # one class of sizes
        assert compiled(torch.ones(batch, 3, 4, 4), torch.ones(batch, 3, 3, 3)).max() == 2
    assert gpu["calls"] == 1


@needs_triton
def test_requested_implementation_is_not_measured(gpu, monkeypatch):
    monkeypatch.setenv("TRANSXNET_OPS", "triton")
    x = torch.randn(2, 3, 4, 4)
    assert choose(DYNAMIC, x, x, None, run=ANY).implementation == "triton"
    assert gpu["calls"] == 0


@needs_triton
def test_operators_pass_what_measuring_needs(gpu, monkeypatch, no_compiler):
    monkeypatch.setattr(backend, "compare", lambda *given: compare(*given, time_step=lambda step: 1.0))
    x, weight = torch.randn(2, 1, 2, 2), torch.randn(1, 1, 1, 1)
    with torch.no_grad(), record_choices() as records:
        ops.dynamic_depthwise_conv2d(x, weight.expand(2, 1, 1, 1))
        ops.multiscale_depthwise_conv2d(x, [weight], [weight[0, 0, 0]], gelu=True)
        ops.biased_attention(x, x, x, x[:1])
    for record in records:
        assert record.comparison.defect == ""
        assert record.choice.implementation == "triton"
