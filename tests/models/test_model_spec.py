"""Parsing of model specifications."""

from pathlib import Path

import pytest

from transxnet.models.model_spec import parse_model_name, parse_model_spec, with_options
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("text", "architecture", "tag", "untagged"),
    [
        ("transxnet_b.in1k_384", "transxnet_b", "in1k_384", "transxnet_b"),
        ("transxnet_b", "transxnet_b", "", "transxnet_b"),
        ("transxnet_b.in1k@attn_ratio=0.25", "transxnet_b", "in1k", "transxnet_b@attn_ratio=0.25"),
        ("transxnet_b@attn_ratio=0.25", "transxnet_b", "", "transxnet_b@attn_ratio=0.25"),
        ("resnet18.a1_in1k:layer3", "resnet18", "a1_in1k", "resnet18"),
        ("runs/a.1", "runs/a.1", "", "runs/a.1"),
        ("", "", "", ""),
    ],
)
def test_name_has_architecture_and_tag(text, architecture, tag, untagged):
    spec = parse_model_name(text)
    assert (spec.architecture, spec.tag, spec.untagged_name) == (architecture, tag, untagged)
    assert spec.name == (f"{architecture}.{tag}" if tag else architecture)
    assert spec.is_transxnet == architecture.startswith("transxnet")


def test_options_are_literals_and_settings_are_words():
    spec = parse_model_name(
        "transxnet_t.in1k@compile,ffn_scales=(1,3),dpe=false,attn_ratio=0.25,local_conv=dyconv,file=a=b.pth:stage4"
    )
    assert spec.settings == {"compile": None, "file": "a=b.pth"}
    assert spec.options == {"ffn_scales": (1, 3), "dpe": False, "attn_ratio": 0.25, "local_conv": "dyconv"}
    assert spec.part == "stage4"
    assert spec.label == "transxnet_t.in1k (ffn_scales=(1, 3), dpe=False, attn_ratio=0.25, local_conv=dyconv)"
    assert spec.untagged_name == "transxnet_t@ffn_scales=(1,3),dpe=false,attn_ratio=0.25,local_conv=dyconv"
    assert parse_model_name(spec.untagged_name).options == spec.options


def test_settings_are_read_with_hyphens_and_files_as_text():
    assert parse_model_name("a@channels-last").settings == {"channels_last": None}
    assert parse_model_name("a@file=007").file == "007"
    assert parse_model_name("a@untrained").untrained


@pytest.mark.parametrize(
    ("text", "name", "part", "options"),
    [
        ("mine:tiny", "mine", "tiny", {}),
        ("pkg.mine:tiny@width=4,eager", "pkg.mine", "tiny", {"width": 4}),
        ("transxnet_t@width=4:stages.2.blocks.0", "transxnet_t", "stages.2.blocks.0", {"width": 4}),
    ],
)
def test_part_follows_the_colon(text, name, part, options):
    spec = parse_model_name(text)
    assert (spec.name, spec.part, spec.options) == (name, part, options)


def test_options_are_added_to_a_name():
    assert with_options("a", "") == "a"
    assert with_options(with_options("a", "x=1"), "y=2") == "a@x=1,y=2"


@pytest.mark.parametrize("text", ["a@dpe=true,dpe=false", "a@compile,compile=default", "a@eager,eager"])
def test_repeated_option_is_an_error(text):
    with pytest.raises(UserError, match=r"sets .* twice"):
        parse_model_name(text)


@pytest.mark.parametrize("option", ["checkpoint_path='a.pth'", "pretrained_cfg={'file':'a.pth'}", "cache_dir=a:b"])
def test_option_that_opens_files_is_an_error(option):
    for parse in (parse_model_name, parse_model_spec):
        with pytest.raises(UserError, match="selects weights and is not accepted"):
            parse(f"transxnet_t@{option}")


@pytest.mark.parametrize(
    ("text", "accepted", "part", "error"),
    [
        (
            "a@compile",
            (),
            False,
            "unexpected 'compile' after @. Accepted: model options as name=value, separated by commas",
        ),
        ("a@x=1,file=b", (), False, "unexpected 'file' after @"),
        (
            "a@egaer",
            ("eager", "compile"),
            False,
            r"unknown setting 'egaer'. Did you mean 'eager'\? .* compile=MODE, and",
        ),
        (
            "a@untraind",
            ("file", "untrained"),
            False,
            "Did you mean 'untrained'.*file=PATH, untrained, and model options",
        ),
        ("a:stage4", (), False, "selects part 'stage4'"),
        ("a@untrained,file=b:stage4", ("file", "untrained"), True, None),
    ],
)
def test_unused_settings_and_parts_are_errors(text, accepted, part, error):
    spec = parse_model_name(text)
    if error is None:
        spec.check_settings(accepted, part)
        return
    with pytest.raises(UserError, match=error):
        spec.check_settings(accepted, part)


def test_existing_paths_are_not_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    (tmp_path / "a.onnx").touch()
    spec = parse_model_spec("resnet18")
    assert (spec.path, spec.name, spec.part, spec.label) == (Path("resnet18"), "", "", "resnet18")
    spec = parse_model_spec(tmp_path / "resnet18")
    assert spec.path == tmp_path / "resnet18"
    spec = parse_model_spec("resnet18:stage4")
    assert (spec.path, spec.part) == (Path("resnet18"), "stage4")
    assert parse_model_spec("a.onnx").path == Path("a.onnx")
    assert parse_model_spec("resnet34").path is None
    assert parse_model_name("resnet18").path is None


def test_weights_are_given_once(tmp_path):
    assert parse_model_spec("a", "b.pth").file == parse_model_spec("a@file=b.pth").file == "b.pth"
    with pytest.raises(UserError, match=r"weights given twice: b\.pth in .* and --file c\.pth"):
        parse_model_spec("a@file=b.pth", "c.pth")
    with pytest.raises(UserError, match="is a run folder, which contains its weights"):
        parse_model_spec(tmp_path, "b.pth")
