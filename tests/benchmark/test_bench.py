"""The command bench, from names of models to rows."""

import re

import pytest
import timm
import torch

import transxnet
from tests.helpers.benchmark_settings import SETTINGS, settings, shown_by
from transxnet.benchmark.bench import bench
from transxnet.benchmark.settings import PRESETS, parse_benchmark_model
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
    with pytest.raises(UserError, match=r"out holds bench.json and bench.png already. .* or --overwrite"):
        bench("mine:tiny", output=result_folder / "out")
    with pytest.raises(UserError, match="is a file; --output names a folder"):
        bench("mine:tiny", output=here / "mine.py")


def test_bench_command_measures_a_training_step_of_features(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    words = "bench transxnet_n@contiguous --mode train --features --size 32x64 --batch 2 --dtype bfloat16"
    assert main([*words.split(), "--channels-last", "--rounds=2", "--seconds", "1e-4", "--device=cpu"]) == 0
    out, err = capsys.readouterr()
    assert "training step, dense-prediction form, 32x64, batch 2" in out
    assert "bfloat16 autocast, eager, contiguous" in out
    assert err == ""


def test_bench_command_fails_if_no_model_works(here, capsys):
    assert main(["bench", "mine:broken", "mine:killed", "--rounds", "1", "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert "ValueError: no such thing" in out
    assert "ended by signal 9" in re.sub(r"\s+", " ", out)
    assert err == "error: none of the models could be measured.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "name the models to measure"),
        ("transxnet_x", "there is no model 'transxnet_x'. Did you mean 'transxnet_"),
        ("resnet18.a1_in2k", "resnet18 has no weights 'a1_in2k'"),
        ("nowhere:tiny", "the module 'nowhere' of 'nowhere:tiny' can't be imported: ModuleNotFoundError"),
        ("mine:tinny", "mine has no function 'tinny'. Did you mean 'tiny'"),
        ("mine:tiny@egaer", "'egaer' is no setting. Did you mean 'eager'"),
        ("mine:tiny@compile=fast", "compile must be a mode of torch.compile, got 'fast'"),
        ("transxnet_n --mode train --reparameterize", "the inference form can't be trained"),
        ("transxnet_n --autocast", "autocast changes nothing in float32"),
        ("transxnet_n --compile fast", "unrecognized arguments: fast."),
        ("transxnet_n --compile=fast", "compile must be a mode of torch.compile, got 'fast'"),
        (
            "transxnet_n --size big",
            "size must be a side in pixels or HEIGHTxWIDTH, such as 224 or 800x1280, got 'big'.",
        ),
        ("transxnet_n --size 0", "height must be a whole number of at least 1"),
        ("transxnet_n --batch 0", "batch must be a whole number of at least 1"),
        ("transxnet_n --rounds 0", "rounds must be a whole number of at least 1"),
        ("transxnet_n --seconds 0", "seconds must be a positive number, got 0.0."),
        ("transxnet_n --dtype float8", "dtype must be 'float32' or 'bfloat16' or 'float16', got 'float8'."),
        ("transxnet_n --mode test", "mode must be 'infer' or 'train', got 'test'."),
        ("--preset table13", "there is no preset 'table13'. Did you mean 'table12' or 'table11'"),
    ],
)
def test_invalid_settings_are_refused_before_measuring(words, said, here, capsys):
    assert main(["bench", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_function_refuses_invalid_settings():
    for wrong, said in [
        ({"mode": "test"}, "mode must be"),
        ({"dtype": "half"}, "dtype must be"),
        ({"device": "tpu"}, "dev"),
    ]:
        with pytest.raises(UserError, match=said):
            bench("transxnet_n", **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_an_error():
    with pytest.raises(UserError, match="PyTorch finds no CUDA device here"):
        bench("transxnet_n", device="cuda")


def test_a_suffix_changes_the_settings_of_one_model():
    plain = parse_benchmark_model("transxnet_t", SETTINGS)
    assert (plain.label, plain.settings, plain.arguments) == ("transxnet_t", SETTINGS, {})
    ours = parse_benchmark_model("transxnet_t@compile,reparameterize,channels-last,bfloat16,autocast", SETTINGS)
    assert ours.settings == settings(
        compile="default", reparameterize=True, channels_last=True, dtype="bfloat16", autocast=True
    )
    assert parse_benchmark_model("transxnet_t@compile=max-autotune", SETTINGS).settings.compile == "max-autotune"
    back = parse_benchmark_model("transxnet_t@eager,original,contiguous,float32,cast", ours.settings)
    assert back.settings == SETTINGS
    kept = parse_benchmark_model("transxnet_t@drop_path_rate=0.1,token_mixer=sra,depths=(1,2,3,4),eager", SETTINGS)
    assert kept.arguments == {"drop_path_rate": 0.1, "token_mixer": "sra", "depths": (1, 2, 3, 4)}
    assert kept.label == "transxnet_t (drop_path_rate=0.1, token_mixer=sra, depths=(1, 2, 3, 4))"


@pytest.mark.parametrize(
    ("words", "modes"),
    [
        ("transxnet_n", [None]),
        ("transxnet_n --compile", ["default"]),
        ("--compile transxnet_n transxnet_t@eager", ["default", None]),
        ("--compile reduce-overhead transxnet_n", ["reduce-overhead"]),
        ("--compile=max-autotune transxnet_n", ["max-autotune"]),
        ("--compile false transxnet_n", [None]),
    ],
)
def test_compile_option_with_and_without_a_mode(words, modes, asked, capsys):
    assert main(["bench", *words.split(), "--device", "cpu"]) == 0
    assert [row.subject.settings.compile for row in asked] == modes


@pytest.mark.long
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_compiled_models_are_measured(mode, here):
    result = bench(
        ["mine:tiny", "mine:tiny@compile"], mode=mode, size=32, batch=2, rounds=2, seconds=1e-4, device="cpu"
    )
    assert [row.failure for row in result.rows] == [None, None]
    assert "float32, compiled, contiguous" in shown_by(result)


def test_table11_measures_the_models_named_in_the_text(asked):
    result = bench("resnet18", preset="table11", device="cpu", mode="train")
    names = [row.subject.name for row in asked]
    assert names == [*PRESETS["table11"].models, "resnet18"]
    assert all(timm.is_model(name) for name in names)
    assert {row.subject.settings for row in asked} == {settings(mode="train", size=(224, 224), batch=128)}
    assert "body" in result.note
    assert "whose body we do not have" in shown_by(result)


def test_table12_measures_six_token_mixers_at_any_size(asked):
    bench(preset="table12", batch=4, size=64, device="cpu")
    mixers = ["d_mixer", "sep_conv", "sra", "shifted_window", "mixing_block", "acmix"]
    assert [row.subject.arguments for row in asked] == [{"token_mixer": mixer} for mixer in mixers]
    assert {row.subject.settings for row in asked} == {settings(size=(64, 64), batch=4)}
    for row in asked:
        assert row.subject.create().eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_size_and_batch_are_the_defaults(preset, asked):
    bench(preset=preset, device="cpu")
    assert {row.subject.settings for row in asked} == {settings(size=(224, 224), batch=128)}


def test_a_classifier_is_made_for_the_size_and_a_backbone_stays_as_it_is():
    def keys(name: str, **changes) -> int:
        model = parse_benchmark_model(name, settings(**changes)).create()
        return model.stages[0].pos_bias.weight.shape[3]

    assert keys("transxnet_n") == 1
    assert keys("transxnet_n", size=(32, 64)) == 2
    assert keys("transxnet_n", features=True) == 49
    assert keys("transxnet_n@img_size=64") == 4
    swin = parse_benchmark_model("swin_tiny_patch4_window7_224", settings(features=True, size=(56, 112))).create()
    assert len(swin(torch.zeros(1, 3, 56, 112))) == 4


def test_package_exports_bench():
    assert transxnet.bench is bench
