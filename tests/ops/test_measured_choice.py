"""The decision between a kernel and PyTorch's operators, its file, and the classes of inputs."""

import json
from math import nan

import pytest
import torch

from transxnet.ops.measured_choice import ChoiceStore, KernelComparison, Outcome, describe_inputs

FACTS = {"device": "a GPU", "torch": "2.15"}
INPUTS = "biased_attention float32 contiguous infer 3x3x7x5"


def comparison(
    kernel_ms: float = 1.0, plain_ms: float = 2.0, error: float = 1e-6, failure: str = ""
) -> KernelComparison:
    return KernelComparison(Outcome(error, kernel_ms, failure), Outcome(1e-6, plain_ms), 1e-5)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "transxnet"


def test_faster_correct_kernel_is_used():
    assert comparison().against_kernel == ""
    assert "kernel takes 1.000 ms, PyTorch's operators 2.000" in comparison().against_plain


def test_slower_kernel_is_refused_with_both_times():
    assert comparison(kernel_ms=3.0).against_kernel == (
        "it is slower here: the kernel takes 3.000 ms, PyTorch's operators 2.000"
    )


@pytest.mark.parametrize("error", [1e-3, nan])
def test_wrong_kernel_is_refused_however_fast(error):
    assert "differ from float64" in comparison(kernel_ms=0.001, error=error).against_kernel


def test_failing_kernel_is_refused_with_its_message():
    found = comparison(nan, error=nan, failure="OutOfResources: shared memory")
    assert found.against_kernel == found.defect == "it fails: OutOfResources: shared memory"


def test_correct_kernel_is_used_where_plain_operators_fail():
    found = KernelComparison(Outcome(1e-6, 1.0), Outcome(nan, nan, "RuntimeError: no engine"), 1e-5)
    assert found.against_kernel == ""


def test_comparison_is_made_once_and_remembered(folder):
    store = ChoiceStore(FACTS)
    assert store.find(INPUTS) is None
    assert store.add(INPUTS, comparison) == comparison()
    assert store.find(INPUTS) == ChoiceStore(FACTS).find(INPUTS) == comparison()
    (path,) = folder.iterdir()
    assert json.loads(path.read_text())["device"] == "a GPU"


def test_other_device_or_version_is_measured_again(folder):
    ChoiceStore(FACTS).add(INPUTS, comparison)
    assert ChoiceStore(FACTS | {"torch": "2.16"}).find(INPUTS) is None


def test_entries_of_other_processes_are_kept(folder):
    first, second = ChoiceStore(FACTS), ChoiceStore(FACTS)
    first.add("a first", comparison)
    second.add("a second", comparison)
    assert ChoiceStore(FACTS).find("a first") == ChoiceStore(FACTS).find("a second") == comparison()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"comparisons": {"a": {"kernel": 1}}}'])
def test_damaged_file_is_written_again(folder, content):
    ChoiceStore(FACTS).add(INPUTS, comparison)
    (path,) = folder.iterdir()
    path.write_text(content)
    store = ChoiceStore(FACTS)
    assert store.find(INPUTS) is None
    store.add(INPUTS, comparison)
    assert ChoiceStore(FACTS).find(INPUTS) == comparison()


def test_choices_are_kept_in_memory_without_cache_folder(folder):
    folder.write_text("a file")
    store = ChoiceStore(FACTS)
    store.add(INPUTS, comparison)
    assert store.find(INPUTS) == comparison()


def test_defective_kernel_is_reported_once_for_an_operator(folder, recwarn):
    store = ChoiceStore(FACTS)
    for inputs in (INPUTS, f"{INPUTS} none"):
        store.add(inputs, lambda: comparison(error=1.0))
    (warning,) = recwarn
    text = str(warning.message)
    for part in (
        "kernel of biased_attention",
        "a GPU",
        "by 1.0e+00, allowed 1.0e-05",
        "doctor --measure --model MODEL",
    ):
        assert part in text


def test_lack_of_memory_is_not_remembered_as_a_choice(folder):
    def no_memory():
        raise torch.OutOfMemoryError

    store = ChoiceStore(FACTS)
    assert store.add(INPUTS, no_memory) is None
    assert store.add(INPUTS, lambda: pytest.fail("it was tried already")) is None
    assert ChoiceStore(FACTS).add(INPUTS, comparison) == comparison()


def test_class_of_inputs_names_type_layout_mode_and_sizes():
    x = torch.zeros(2, 24, 56, 50, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    weights = [torch.zeros(8, 1, 5, 5), torch.zeros(16, 1, 7, 7)]
    assert describe_inputs("op", (x, weights, None, True), training=True) == (
        "op bfloat16 channels_last train 3x32x64x64 8x1x5x5 16x1x7x7 none yes"
    )
    assert describe_inputs("op", (x.contiguous(),), training=False) == "op bfloat16 contiguous infer 3x32x64x64"


def test_kernel_sizes_have_classes_of_their_own():
    names = {describe_inputs("op", (torch.zeros(9, 9, K, K),), training=False) for K in (1, 3, 5, 7, 9)}
    assert len(names) == 5
