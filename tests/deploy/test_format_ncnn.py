"""ncnn models."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers.classifier_runs import draw, write_run
from tests.helpers.exports import CLASSES, assert_near, random_images
from transxnet import UserError, load_exported, read_metadata, verify
from transxnet.deploy.export import export
from transxnet.deploy.format_ncnn import name_blobs
from transxnet.heads import create_segmenter
from transxnet.runs.load import load_model

FILES = ["net.ncnn.bin", "net.ncnn.json", "net.ncnn.param"]


@pytest.fixture(scope="module")
def file(theirs, quiet, tmp_path_factory) -> Path:
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    folder = tmp_path_factory.mktemp("ncnn")
    return export(theirs.path, format="ncnn", out=folder / "net.ncnn.param", console=quiet)


def copied(file: Path, folder: Path) -> Path:
    for name in FILES:
        shutil.copy(file.with_name(name), folder)
    return folder / file.name


@torch.no_grad()
def test_model_gives_the_outputs_of_pytorch(theirs, file):
    exported, x = load_exported(file), random_images(3, 64, 64)
    assert_near(exported(x), load_model(theirs.path).model(x))
    assert (exported.class_names, exported.metadata.batch, exported.metadata.dynamic) == (CLASSES, 1, ())
    assert sorted(each.name for each in file.parent.iterdir()) == FILES


def test_file_is_verified_on_its_reference_image(file, quiet):
    assert verify(file, console=quiet).comparison.agreement == 1


def test_segmenter_is_verified(segmenter, tmp_path, quiet):
    pytest.importorskip("ncnn")
    file = export(segmenter.path, format="ncnn", img_size=64, out=tmp_path / "net.ncnn.param", console=quiet)
    assert read_metadata(file).task == "segment"
    assert verify(file, console=quiet).comparison.relative < 1e-4


@pytest.mark.long
@torch.no_grad()
def test_segmenter_on_transxnet_gives_the_outputs_of_pytorch(photos, tmp_path, quiet):
    pytest.importorskip("ncnn")
    described = dict(architecture="transxnet_n", class_names=CLASSES, preprocessing={"scale": [128, 64]})
    model = draw(create_segmenter("transxnet_n", 3))
    run = write_run(tmp_path / "run", model, photos, task="segment", **described)
    file = export(run.path, format="ncnn", img_size=64, out=tmp_path / "net.ncnn.param", console=quiet)
    x = random_images(1, 64, 64)
    assert_near(load_exported(file)(x), load_model(run.path).model(x))


@pytest.mark.long
@pytest.mark.parametrize(("features", "dtype"), [(False, "float32"), (True, "float32"), (False, "float16")])
def test_features_and_float16_are_verified(ours, tmp_path, quiet, features, dtype):
    pytest.importorskip("ncnn")
    options = dict(format="ncnn", img_size=64, features=features, dtype=dtype, console=quiet)
    file = export(ours.path, out=tmp_path / "net.ncnn.param", **options)
    assert verify(file, console=quiet).comparison.relative < (1e-4 if dtype == "float32" else 1e-2)


@pytest.mark.parametrize("name", FILES[:2])
def test_missing_part_is_an_error(file, tmp_path, name):
    copy = copied(file, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        load_exported(copy)


@pytest.mark.parametrize("content", ["[]", "{", json.dumps({"transxnet.task": 1})])
def test_damaged_metadata_is_an_error(file, tmp_path, content):
    copy = copied(file, tmp_path)
    (tmp_path / "net.ncnn.json").write_text(content)
    with pytest.raises(UserError, match="metadata"):
        read_metadata(copy)


def test_damaged_graph_is_an_error(file, tmp_path):
    copy = copied(file, tmp_path)
    copy.write_text("no model")
    with pytest.raises(UserError, match=r"cannot read .* as an ncnn model"):
        load_exported(copy)


def test_unsupported_options_are_refused(theirs, detector, tmp_path, quiet):
    for path, options, message in [
        (
            detector.path,
            {},
            r"supports classifiers, segmenters and --features; .*boxes is a detector\. Use --format onnx",
        ),
        (theirs.path, dict(dynamic="batch"), "takes one image of a fixed size, got --dynamic batch"),
        (theirs.path, dict(batch_size=2), "takes one image of a fixed size, got --dynamic None and --batch-size 2"),
        (theirs.path, dict(with_preprocessing=True), "does not support --with-preprocessing"),
        (theirs.path, dict(end_to_end=True), "--end-to-end requires --format onnx or openvino, got ncnn"),
        (theirs.path, dict(dtype="bfloat16"), "dtype must be 'float32' or 'float16' for --format ncnn"),
        (theirs.path, dict(out=tmp_path / "net.param"), r"--out must end in \.ncnn\.param"),
    ]:
        with pytest.raises(UserError, match=message):
            export(path, format="ncnn", console=quiet, **options)


def test_blobs_get_the_names_of_inputs_and_outputs():
    graph = "7767517\n2 2\nInput in0 0 1 in0\nInnerProduct out0 1 1 in0 out0 0=3 1=1\n"
    assert name_blobs(graph, ["logits"]).splitlines()[2:] == [
        "Input in0 0 1 images",
        "InnerProduct out0 1 1 images logits 0=3 1=1",
    ]


def test_operators_that_ncnn_lacks_are_named():
    graph = "7767517\n2 2\nInput in0 0 1 in0\ntorch.roll roll_0 1 1 in0 out0\n"
    with pytest.raises(UserError, match=r"ncnn lacks operators of this network: torch\.roll\. Use --format onnx"):
        name_blobs(graph, ["logits"])
