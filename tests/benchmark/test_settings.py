import pytest
import torch

from tests.helpers.benchmark_settings import SETTINGS, settings
from transxnet.benchmark.settings import find_factory, parse_benchmark_model
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


def test_size_of_one_model_is_changed():
    assert parse_benchmark_model("transxnet_n@size=64", settings()).settings.size == (64, 64)
    assert parse_benchmark_model("transxnet_n@size=64x96", settings()).settings.size == (64, 96)
    with pytest.raises(UserError):
        parse_benchmark_model("transxnet_n@size", settings())


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
