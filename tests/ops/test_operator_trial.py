"""Kernels in Triton's interpreter, checked and timed against PyTorch's operators."""

import pytest
import torch
from torch import Tensor

from transxnet.ops import attention, dynamic_conv, multiscale_conv
from transxnet.ops.operator_trial import compare, time_call

pytest.importorskip("triton", reason="the kernels need the package triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def no_time(step) -> float:
    return 1.0


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE)


def arguments(operator: str) -> tuple:
    if operator == "dynamic":
        return rand(3, 2, 3, 2), rand(3, 2, 3, 3), None
    if operator == "multiscale":  # the batch is as large as the number of channels of a weight
        return rand(3, 4, 2, 3), [rand(3, 1, 3, 3), rand(1, 1, 1, 1)], [rand(3), rand(1)], True, False
    return rand(3, 1, 5, 4), rand(3, 1, 2, 4), rand(3, 1, 2, 4), rand(1, 1, 5, 2)


RUN = {"dynamic": dynamic_conv._run, "multiscale": multiscale_conv._run, "attention": attention._run}
OPERATORS = pytest.mark.parametrize("operator", list(RUN))


@OPERATORS
def test_kernels_pass_with_output_and_gradients(operator):
    found = compare(RUN[operator], arguments(operator), True, no_time)
    assert found.defect == ""
    assert 0 < found.kernel.error <= found.bound
    assert found.kernel.milliseconds == found.plain.milliseconds == 1.0


@OPERATORS
@pytest.mark.parametrize("training", [True, False])
def test_every_wrong_result_is_found(operator, training):
    """Each output and gradient in turn is changed in its last sample or channel."""
    names = [t for a in arguments(operator) for t in (a if isinstance(a, list) else [a]) if isinstance(t, Tensor)]
    for wrong in range(1 + len(names) * training):

        def run(implementation, *given, wrong=wrong):
            tensors = [t for a in given for t in (a if isinstance(a, list) else [a]) if isinstance(t, Tensor)]
            out = RUN[operator]("reference", *given)
            if implementation == "triton" and wrong == 0:
                out = torch.cat([out[:-1], out[-1:] + 0.1])
            if implementation == "triton" and wrong > 0:
                changed = tensors[wrong - 1]
                last = torch.zeros_like(changed)
                last[-1] = 0.1
                out = out + (changed * last).sum() - (changed * last).sum().detach()
            return out

        assert "differ" in compare(run, arguments(operator), training, no_time).defect


def test_failing_kernel_is_recorded_with_its_message():
    def run(implementation, *given):
        if implementation == "triton":
            raise ValueError("no such instruction\nin line 3")
        return dynamic_conv._run("reference", *given)

    found = compare(run, arguments("dynamic"), False, no_time)
    assert found.kernel.failure == "ValueError: no such instruction"
    assert found.plain.failure == ""


def test_lack_of_memory_is_raised():
    def run(implementation, *given):
        if implementation == "triton":
            raise torch.OutOfMemoryError
        return dynamic_conv._run("reference", *given)

    with pytest.raises(torch.OutOfMemoryError):
        compare(run, arguments("dynamic"), False, no_time)


def test_measuring_keeps_inputs_random_state_and_strides():
    wide = rand(3, 4, 3, 2).contiguous(memory_format=torch.channels_last)
    x, weight, bias = wide[:, :2], rand(3, 2, 1, 1), rand(3, 2)
    seen, before = [], wide.clone()

    def run(implementation, *given):
        seen.append(given[0].stride())
        return dynamic_conv._run("reference", *given)

    state = torch.get_rng_state()
    with torch.inference_mode():
        compare(run, (x, weight, bias), False, no_time)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(wide, before)
    assert x.stride() in seen


def test_time_of_a_call_is_in_milliseconds(monkeypatch):
    monkeypatch.setattr("transxnet.ops.operator_trial.SECONDS", 0.001)
    a = torch.ones(10)
    assert 0 < time_call(lambda: a + a) < 100
