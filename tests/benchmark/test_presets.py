"""The presets: their models, settings and published values."""

import pytest
import timm
import torch

from tests.helpers.benchmark_settings import settings, shown_by
from transxnet import UserError, bench
from transxnet.benchmark.bench_report import as_json
from transxnet.benchmark.presets import FRONTIER, PRESETS, find_preset


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
    assert {row.model.settings.batch for row in asked} == {128}
    if preset != "frontier":
        assert {row.model.settings for row in asked} == {settings(size=(224, 224), batch=128)}


def test_frontier_measures_each_network_at_the_size_of_its_accuracy(asked):
    result = bench(preset="frontier", device="cpu")
    assert [row.model.name for row in asked] == list(FRONTIER)
    assert {row.model.name: row.model.settings.size[0] for row in asked if row.model.settings.size != (224, 224)} == {
        "mobilenetv4_conv_large": 384,
        "fastvit_sa12": 256,
        "fastvit_sa24": 256,
        "efficientnet_b3": 288,
    }
    assert all(result.accuracy(row) for row in asked)
    assert sum(row.model.settings.reparameterize for row in asked) == 5
    shown = shown_by(result)
    assert "82.1" in shown and "distilled" in shown and "384x384" in shown
    assert as_json(result)["models"][3]["published_accuracy"]["source"].endswith("convnext_tiny.fb_in1k")


def test_every_accuracy_has_a_source_and_a_model():
    for name, published in FRONTIER.items():
        assert timm.is_model(name)
        assert published.source.startswith(("TransXNet", "timm, results/results-imagenet.csv at commit"))
        assert 76 < published.top1 < 86
