"""The bench command, from model names to rows."""

import re

import pytest
import torch

import transxnet
from tests.helpers.benchmark_settings import shown_by
from transxnet.benchmark.bench import bench
from transxnet.cli import main
from transxnet.utils.errors import UserError


def test_rows_have_speed_memory_and_cost(result):
    tiny, ours = result.rows[:2]
    assert tiny.failure is ours.failure is None
    assert tiny.facts.parameters == (27 * 4 + 4) + (36 * 4 + 4) + (4 * 5 + 5)
    assert tiny.facts.multiply_adds == 16 * 16 * 27 * 4 + 8 * 8 * 36 * 4 + 20
    for row in (tiny, ours):
        assert len(row.milliseconds) == 3
        assert row.iterations >= 1
        assert all(figure > 0 for figure in row.milliseconds)
        assert 1e8 < row.facts.idle_memory < row.peak_memory + 1e8 < 1e11
    assert result.speeds(tiny) == [1, 1, 1]
    assert result.speeds(ours) == [a / b for a, b in zip(tiny.milliseconds, ours.milliseconds, strict=True)]


def test_failure_of_one_model_is_in_its_row(result):
    forgetful = result.rows[2]
    assert forgetful.failure.reason == "RuntimeError: forgot how"
    assert "in forward" in forgetful.failure.details
    assert forgetful.facts.parameters == 16
    assert result.speeds(forgetful) == []


def test_existing_files_are_not_overwritten(result, result_folder, here):
    with pytest.raises(
        UserError, match=r"out already contains bench.json, bench.png\. Choose another --out, or use --overwrite"
    ):
        bench("mine:tiny", out=result_folder / "out")
    with pytest.raises(UserError, match="is a file, but --out must be a folder"):
        bench("mine:tiny", out=here / "mine.py")


@pytest.mark.long
def test_bench_command_measures_a_training_step_of_features(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    arguments = "bench transxnet_n@contiguous --mode train --features --img-size 32x64 --batch-size 2 --dtype bfloat16"
    assert main([*arguments.split(), "--channels-last", "--rounds=2", "--seconds", "1e-4", "--device=cpu"]) == 0
    out, err = capsys.readouterr()
    assert "training step, dense-prediction form, 32x64, batch 2" in out
    assert "bfloat16 autocast, eager, contiguous" in out
    assert err == ""


@pytest.mark.long
def test_bench_command_fails_if_no_model_works(here, capsys):
    assert main(["bench", "mine:broken", "mine:killed", "--rounds", "1", "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert "ValueError: no such thing" in out
    assert "killed by signal 9" in re.sub(r"\s+", " ", out)
    assert err == "error: no model could be measured.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no models given. Name models such as transxnet_t"),
        ("transxnet_x", "unknown model 'transxnet_x'. Did you mean 'transxnet_"),
        ("resnet18.a1_in2k", "resnet18 has no weights 'a1_in2k'"),
        ("nowhere:tiny", "cannot import module 'nowhere' of 'nowhere:tiny': ModuleNotFoundError"),
        ("mine:tinny", "mine has no function 'tinny'. Did you mean 'tiny'"),
        ("mine:tiny@egaer", "unknown setting 'egaer'. Did you mean 'eager'"),
        ("mine:tiny@compile=fast", "compile must be a mode of torch.compile, got 'fast'"),
        ("transxnet_n --mode train --reparameterize", "the inference form cannot be trained"),
        ("transxnet_n --autocast", "autocast has no effect in float32"),
        ("transxnet_n --compile fast", "unrecognized arguments: fast."),
        ("transxnet_n --compile=fast", "compile must be a mode of torch.compile, got 'fast'"),
        (
            "transxnet_n --img-size big",
            "such as 224 or 800x1280, at least 1, got 'big'.",
        ),
        ("transxnet_n --img-size 0", "at least 1, got"),
        ("transxnet_n --batch-size 0", "batch_size must be an integer of at least 1"),
        ("transxnet_n --rounds 0", "rounds must be an integer of at least 1"),
        ("transxnet_n --seconds 0", "seconds must be positive, got 0.0."),
        ("transxnet_n --dtype float8", "dtype must be 'float32' or 'bfloat16' or 'float16', got 'float8'."),
        ("transxnet_n --mode test", "mode must be 'infer' or 'train', got 'test'."),
        ("--preset table13", "unknown preset 'table13'. Did you mean 'table12' or 'table11'"),
    ],
)
def test_invalid_settings_are_errors_before_measuring(arguments, message, here, capsys):
    assert main(["bench", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_invalid_arguments_of_the_function_are_errors():
    for wrong, message in [
        ({"mode": "test"}, "mode must be"),
        ({"dtype": "half"}, "dtype must be"),
        ({"device": "tpu"}, "dev"),
    ]:
        with pytest.raises(UserError, match=message):
            bench("transxnet_n", **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="requires a machine without a GPU")
def test_missing_gpu_is_an_error():
    with pytest.raises(UserError, match="no GPU found for device cuda"):
        bench("transxnet_n", device="cuda")


@pytest.mark.parametrize(
    ("arguments", "modes"),
    [
        ("transxnet_n", [None]),
        ("transxnet_n --compile", ["default"]),
        ("--compile transxnet_n transxnet_t@eager", ["default", None]),
        ("--compile reduce-overhead transxnet_n", ["reduce-overhead"]),
        ("--compile=max-autotune transxnet_n", ["max-autotune"]),
        ("--compile false transxnet_n", [None]),
    ],
)
def test_compile_option_with_and_without_a_mode(arguments, modes, asked, capsys):
    assert main(["bench", *arguments.split(), "--device", "cpu"]) == 0
    assert [row.model.settings.compile for row in asked] == modes


@pytest.mark.long
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_compiled_models_are_measured(mode, here):
    result = bench(
        ["mine:tiny", "mine:tiny@compile"], mode=mode, size=32, batch=2, rounds=2, seconds=1e-4, device="cpu"
    )
    assert [row.failure for row in result.rows] == [None, None]
    assert "float32, compiled, contiguous" in shown_by(result)


def test_package_exports_bench():
    assert transxnet.bench is bench
