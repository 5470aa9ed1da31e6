import pytest
import timm
import torch

from tests.helpers.benchmark_settings import SETTINGS, settings, shown_by
from transxnet.benchmark.bench import bench
from transxnet.benchmark.bench_report import as_json
from transxnet.benchmark.settings import PRESETS, find_factory, find_preset, parse_benchmark_model
from transxnet.utils.errors import UserError


def test_name_changes_the_settings_of_one_model():
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


def test_factory_is_found_in_the_current_directory(here):
    model = parse_benchmark_model("mine:tiny@width=4,bfloat16", SETTINGS)
    assert (model.name, model.label, model.settings.dtype) == ("mine:tiny", "mine:tiny (width=4)", "bfloat16")
    assert model.create()[0][0].out_channels == 4
    assert find_factory("mine:tiny") is find_factory("mine:tiny")


@pytest.mark.parametrize(
    ("text", "changes", "error"),
    [
        ("nowhere:tiny", {}, "cannot import module 'nowhere' of 'nowhere:tiny': ModuleNotFoundError"),
        (
            "transxnet_n@checkpoint_path=weights.pth",
            {},
            "checkpoint_path selects weights and is not accepted as a model option",
        ),
        ("transxnet_n@file=weights.pth", {}, "unknown setting 'file'.*Accepted after @: eager, compile=MODE, "),
        ("transxnet_n@compile=fast", {}, "compile must be a mode of torch.compile, got 'fast'"),
        ("transxnet_n@reparameterize", {"mode": "train"}, "the inference form cannot be trained"),
    ],
)
def test_invalid_model_is_an_error(text, changes, error):
    with pytest.raises(UserError, match=error):
        parse_benchmark_model(text, settings(**changes))


def test_unknown_preset_is_an_error():
    with pytest.raises(UserError, match="Did you mean 'table12' or 'table11'"):
        find_preset("table13")


def test_table11_measures_the_models_named_in_the_text(asked):
    result = bench("resnet18", preset="table11", device="cpu", mode="train")
    names = [row.model.name for row in asked]
    assert names == [*PRESETS["table11"].models, "resnet18"]
    assert all(timm.is_model(name) for name in names)
    assert {row.model.settings for row in asked} == {settings(mode="train", size=(224, 224), batch=128)}
    assert "of which we have only the text" in result.note
    assert "of which we have only the text" in " ".join(shown_by(result).split())
    families = ("transxnet", "mpvit", "quadtree", "swin", "convnext", "focal")
    assert {next(family for family in families if name.startswith(family)) for name in names[:-1]} == set(families)


def test_table11_shows_the_paper_s_values_next_to_the_measured_ones(asked):
    result = bench("transxnet_t@drop_path_rate=0.1", preset="table11", device="cpu")
    shown = shown_by(result)
    for text in ("paper: 857", "paper: 2,252 MB", "paper: 868", "paper: 2,460 MB"):
        assert shown.count(text) == 1, text
    models = {entry["model"]: entry for entry in as_json(result)["models"]}
    assert models["transxnet_t"]["paper"] == {"images_per_second": 857, "megabytes": 2252}
    assert [name for name, entry in models.items() if "paper" in entry] == ["transxnet_t", "mpvit_xsmall"]


def test_table12_measures_six_token_mixers_at_any_size(asked):
    bench(preset="table12", batch_size=4, img_size=64, device="cpu")
    mixers = ["d_mixer", "sep_conv", "sra", "shifted_window", "mixing_block", "acmix"]
    assert [row.model.arguments for row in asked] == [{"token_mixer": mixer} for mixer in mixers]
    assert {row.model.settings for row in asked} == {settings(size=(64, 64), batch=4)}
    for row in asked:
        assert row.model.create().eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_size_and_batch_are_the_defaults(preset, asked):
    bench(preset=preset, device="cpu")
    assert {row.model.settings for row in asked} == {settings(size=(224, 224), batch=128)}


def test_classifier_has_the_size_of_the_images():
    def keys(name: str, **changes) -> int:
        model = parse_benchmark_model(name, settings(**changes)).create()
        return model.stages[0].pos_bias.weight.shape[3]

    assert keys("transxnet_n") == 1
    assert keys("transxnet_n", size=(32, 64)) == 2
    assert keys("transxnet_n", features=True) == 49
    assert keys("transxnet_n@img_size=64") == 4
    swin = parse_benchmark_model("swin_tiny_patch4_window7_224", settings(features=True, size=(56, 112))).create()
    assert len(swin(torch.zeros(1, 3, 56, 112))) == 4
