"""What doctor reports about the operators and the machine."""

from io import StringIO
from math import nan

import pytest
from rich.console import Console

from transxnet import UserError
from transxnet.analysis.doctor import Finding, doctor, show
from transxnet.ops import Choice, backend
from transxnet.ops.measured_choice import KernelComparison, Outcome

CONVS = ("dynamic_depthwise_conv2d", "multiscale_depthwise_conv2d")


def printed(*findings) -> str:
    console = Console(width=120, record=True, file=StringIO())
    console.print(show(*findings))
    return console.export_text()


def test_doctor_lists_each_operator_at_each_stage():
    findings = doctor(device="cpu", batch_size=2)
    assert len(findings) == 12
    shapes = {(f.operator, f.stage): f.shape for f in findings}
    assert shapes["dynamic_depthwise_conv2d", 1] == (2, 24, 56, 56)  # half of T's 48 channels
    assert shapes["multiscale_depthwise_conv2d", 3] == (2, 896, 14, 14)  # four times the 224 channels of T
    assert shapes["biased_attention", 4] == (2, 8, 49, 28)


def test_training_and_inference_choose_separately(monkeypatch):
    monkeypatch.setattr(backend, "why_unavailable", lambda: "there is no C compiler on this machine")

    def chosen(mode):
        return {f.choice.implementation for f in doctor(mode=mode, device="cpu") if f.operator.endswith("conv2d")}

    assert chosen("train") == {"cpu"}
    assert chosen("infer") == {"reference"}


def test_terminal_shows_versions_choices_and_reasons(monkeypatch):
    monkeypatch.setattr(backend, "why_unavailable", lambda: "there is no C compiler on this machine")
    text = printed(doctor(device="cpu", img_size=100, dtype="bfloat16", mode="train"))
    for part in (
        "torch",
        "biased_attention",
        "16 x 192 x 25 x 25",
        "reference",
        "implementations not selected",
        "float32 only",
        "no C compiler",
    ):
        assert part in text


def test_network_other_than_transxnet_is_an_error():
    with pytest.raises(UserError, match=r"only TransXNet models, got resnet18\. Choose one, such as transxnet_t"):
        doctor("resnet18")


def test_measuring_runs_the_network_and_lists_every_shape():
    findings = doctor("transxnet_n", img_size=32, batch_size=2, device="cpu", measure=True)
    assert {f.operator for f in findings} == {"biased_attention", *CONVS}
    assert len({(f.operator, f.shape) for f in findings if f.operator in CONVS}) > 8
    assert all(f.stage is None and f.comparison is None for f in findings)


def test_terminal_shows_times_and_defects_of_measured_kernels():
    good = KernelComparison(Outcome(2e-7, 0.25), Outcome(1e-7, 0.5), 1e-5)
    bad = KernelComparison(Outcome(nan, nan, "OutOfResources: shared memory"), Outcome(1e-7, 0.75), 1e-5)
    choices = [Choice("triton", {"reference": good.against_plain}), Choice("reference", {"triton": bad.against_kernel})]
    cases = zip(CONVS, choices, (good, bad), strict=True)
    text = printed([Finding(name, None, (2, 8, 4, 4), choice, found) for name, choice, found in cases])
    for part in ("0.250", "0.500", "2.0e-07", "0.750", "it fails: OutOfResources: shared memory"):
        assert part in text
    assert "slower here" not in text
