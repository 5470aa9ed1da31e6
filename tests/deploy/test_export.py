"""Exported files against the PyTorch models that they were made from."""

import errno
import io
import json
import os
import pkgutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

import transxnet
from tests.helpers.classifier_runs import draw, preprocessing, write_run
from transxnet import TransXNet, UserError, load_exported, read_metadata
from transxnet.deploy import export as exporting
from transxnet.deploy import format_onnx, verify
from transxnet.deploy.export import export
from transxnet.deploy.metadata import Metadata
from transxnet.heads import create_detector, create_segmenter
from transxnet.runs.load import load_trained
from transxnet.runs.run_folder import Run
from transxnet.utils.files import CannotWrite

SMALL = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2))
CLASSES = ["ant", "bee", "cat"]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Nine noisy pictures of three classes, each with another colour."""
    root, dice = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(3):
            pixels = dice.integers(0, 150, (70, 90, 3)) + np.eye(3)[label] * 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def ours(photos, tmp_path_factory) -> Run:
    """A run of the smallest TransXNet, for 64x64 images."""
    model = draw(TransXNet(num_classes=3, img_size=64, **SMALL))
    args = {**SMALL, "img_size": 64}
    described = dict(architecture="transxnet_n", class_names=CLASSES, preprocessing=preprocessing(64), model_args=args)
    return write_run(tmp_path_factory.mktemp("runs") / "ours", model, photos, **described)


@pytest.fixture(scope="module")
def theirs(photos, tmp_path_factory) -> Run:
    """A run of timm's smallest ResNet."""
    model = draw(transxnet.create_model("test_resnet", num_classes=3))
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing=preprocessing(64))
    return write_run(tmp_path_factory.mktemp("runs") / "theirs", model, photos, **described)


@pytest.fixture(scope="module")
def detector(photos, tmp_path_factory) -> Run:
    """A RetinaNet that finds something everywhere."""
    model = create_detector("retinanet", "test_resnet", 3, min_size=64, max_size=128)
    draw(model)
    with torch.no_grad():
        model.head.classification_head.cls_logits.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    described = dict(
        architecture="test_resnet",
        class_names=CLASSES,
        preprocessing={},
        model_args=dict(head="retinanet", min_size=64, max_size=128),
    )
    return write_run(tmp_path_factory.mktemp("runs") / "boxes", model, photos, task="detect", **described)


@pytest.fixture(scope="module")
def segmenter(photos, tmp_path_factory) -> Run:
    """A Semantic FPN for photographs that fit into 128x64."""
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing={"scale": [128, 64]})
    model = draw(create_segmenter("test_resnet", 3))
    return write_run(tmp_path_factory.mktemp("runs") / "maps", model, photos, task="segment", **described)


def images(count: int, *size: int) -> Tensor:
    """Images that differ, also in what they show on the whole."""
    dice = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, *size, generator=dice) + torch.randn(count, 3, 1, 1, generator=dice)


def close(actual: Tensor, truth: Tensor, rel: float = 1e-4) -> None:
    """Relative to the largest value, as the command has it."""
    torch.testing.assert_close(actual, truth, rtol=0, atol=rel * truth.abs().max().item())


# The file gives what the model gives


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.long)])
@torch.no_grad()
def test_batches_of_different_images_are_right_at_any_number(ours, tmp_path, console, format):
    file = export(ours.path, format=format, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    model, exported = load_trained(ours.path).model, load_exported(file)
    for count in (1, 2, 7):
        x = images(count, 64, 64)
        close(exported(x), model(x))
    each = torch.cat([exported(x[i : i + 1]) for i in range(len(x))])
    close(exported(x), each)
    assert not torch.allclose(each[0], each[1], atol=1e-3 * each.abs().max().item())


@pytest.mark.long
@torch.no_grad()
def test_any_height_and_width_in_steps_of_32(ours, tmp_path, console):
    file = export(ours.path, dynamic="batch,height,width", out=tmp_path / "net.onnx", console=console)
    model, exported = load_trained(ours.path).model, load_exported(file)
    for size in ((64, 64), (32, 96), (128, 160)):
        x = images(2, *size)
        close(exported(x), model(x))
    with pytest.raises(ValueError, match="height is a multiple of 32, got 65"):
        exported(images(1, 65, 64))


@torch.no_grad()
def test_a_fixed_batch_is_filled_up_and_bytes_are_normalised_inside(theirs, tmp_path, console):
    options = dict(dynamic="none", batch=2, size=96, with_preprocessing=True, console=console)
    file = export(theirs.path, out=tmp_path / "net.onnx", **options)
    levels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    (logits,) = onnxruntime.InferenceSession(str(file)).run(["logits"], {"images": levels})
    prepared = preprocessing(64)
    x = (levels / 255 - prepared["mean"]) / prepared["std"]
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    model, exported = load_trained(theirs.path).model, load_exported(file)
    close(torch.from_numpy(logits), model(x))
    close(exported(torch.cat([x, x[:1]])), model(torch.cat([x, x[:1]])))
    picture = Image.fromarray(levels[0])
    assert exported.preprocessing.transform()(picture).shape == (3, 96, 96)


@pytest.mark.long
@torch.no_grad()
def test_features_are_the_outputs_of_the_stages(ours, tmp_path, console):
    file = export(ours.path, features=True, format="openvino", out=tmp_path / "maps.xml", console=console)
    x = images(2, 64, 64)
    truth = load_trained(ours.path).model.forward_intermediates(x, intermediates_only=True)
    assert read_metadata(file).outputs == ("stride4", "stride8", "stride16", "stride32")
    for actual, expected in zip(load_exported(file)(x), truth, strict=True):
        close(actual, expected)


@pytest.mark.parametrize("format", ["onnx", pytest.param("pt2", marks=pytest.mark.long)])
@torch.no_grad()
def test_a_segmenter_takes_photographs_of_any_size(segmenter, tmp_path, console, format):
    file = export(segmenter.path, format=format, out=tmp_path / f"maps{SUFFIX[format]}", console=console)
    model, exported = load_trained(segmenter.path).model, load_exported(file)
    for size in ((64, 96), (96, 64)):
        x = torch.rand(1, 3, *size)
        close(exported(x), model(x))
    assert exported.metadata.resize == {"scale": [128, 64], "multiple": 32}


@pytest.mark.parametrize(
    ("format", "dynamic"),
    [
        ("onnx", "none"),
        pytest.param("onnx", "height,width", marks=pytest.mark.long),
        pytest.param("pt2", "none", marks=pytest.mark.long),
        pytest.param("pt2", "height,width", marks=pytest.mark.long),
    ],
)
@torch.no_grad()
def test_a_detector_gives_its_boxes_after_suppression(detector, tmp_path, console, format, dynamic):
    options = dict(format=format, size="64x96", dynamic=dynamic, console=console)
    exported = load_exported(export(detector.path, out=tmp_path / f"boxes{SUFFIX[format]}", **options))
    model = load_trained(detector.path).model
    picture = torch.rand(3, 64, 96)
    (truth,) = model([picture])
    found = exported.detect(picture)
    assert len(truth["scores"]) > 10
    close(found["scores"], truth["scores"])
    close(found["boxes"], truth["boxes"])
    assert found["labels"].tolist() == truth["labels"].tolist()


@pytest.mark.long
@pytest.mark.parametrize("dynamic", ["none", "batch"])
@torch.no_grad()
def test_a_compiled_package_gives_the_same(ours, tmp_path, console, dynamic):
    options = dict(format="pt2", dynamic=dynamic, batch=2, console=console)
    file = export(ours.path, out=tmp_path / "net.pt2", **options)
    model, exported = load_trained(ours.path).model, load_exported(file)
    for count in (1, 2, 7):
        x = images(count, 64, 64)
        close(exported(x), model(x))
    assert exported.class_names == CLASSES


@pytest.mark.long
@pytest.mark.parametrize(("format", "dtype"), [("onnx", "float16"), ("openvino", "float16"), ("openvino", "bfloat16")])
@torch.no_grad()
def test_half_precision_stays_near(theirs, tmp_path, console, format, dtype):
    file = export(theirs.path, format=format, dtype=dtype, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    x = images(2, 64, 64)
    logits = load_exported(file)(x)
    assert logits.dtype == torch.float32
    close(logits, load_trained(theirs.path).model(x), verify.TOLERANCE[dtype])


# What the file says of itself, and what the command says


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_the_file_says_what_it_is(theirs, photos, tmp_path, console, format):
    file = export(theirs.path, format=format, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    metadata, exported = read_metadata(file), load_exported(file)
    assert exported.metadata == metadata
    assert metadata.class_names == CLASSES
    assert metadata.preprocessing == load_trained(theirs.path).preprocessing
    assert (metadata.task, metadata.model, metadata.source) == ("classify", "test_resnet", str(theirs.path))
    assert (metadata.size, metadata.batch, metadata.dynamic) == ((64, 64), 0, ("batch",))
    assert metadata.versions["transxnet"] == transxnet.__version__
    assert metadata.versions["opset"] == "20"
    said = console.file.getvalue()
    assert f"images: the held-out part of {photos}" in said
    assert "checked on 7 x 64x64: largest difference" in said
    assert "same class 100.0%" in said
    if format == "onnx":
        model = onnx.load(str(file))
        onnx.checker.check_model(model, full_check=True)
        assert json.loads({p.key: p.value for p in model.metadata_props}["transxnet.class_names"]) == CLASSES
        assert [i.version for i in model.opset_import if not i.domain] == [20]
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]


@pytest.mark.parametrize(("format", "reader"), [("onnx", "onnxruntime.InferenceSession"), ("openvino", "read")])
def test_a_file_is_read_once_by_its_runtime_alone(theirs, tmp_path, console, monkeypatch, format, reader):
    file = export(theirs.path, format=format, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    said = read_metadata(file)
    for package in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    target = reader if "." in reader else f"transxnet.deploy.format_{format}.{reader}"
    read, reads = pkgutil.resolve_name(target), []
    monkeypatch.setattr(target, lambda *args, **options: reads.append(args) or read(*args, **options))
    exported = load_exported(file)
    assert exported.metadata == said
    assert exported(images(2, 64, 64)).shape == (2, 3)
    assert len(reads) == 1
    if format == "onnx":
        with pytest.raises(
            UserError, match=r"needs the package onnx. Install it with: pip install 'transxnet\[export\]'"
        ):
            read_metadata(file)


def test_metadata_comes_back_as_it_was():
    metadata = Metadata(
        task="detect",
        model="transxnet_t",
        source="runs/ü",
        class_names=["1", 'quo"te', "日本"],
        input="uint8",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size=(64, 96),
        batch=1,
        dynamic=("height", "width"),
        resize={"min_size": 64, "max_size": 96, "multiple": 32, "fill": [0.485, 0.456, 0.406]},
        outputs=("boxes", "labels", "scores"),
        score_threshold=0.05,
        dtype="float32",
        versions={"torch": "2.15.0"},
    )
    texts = metadata.to_texts()
    assert all(isinstance(text, str) for text in texts.values())
    assert Metadata.from_texts(texts) == metadata


# Refusals


def test_a_file_that_is_another_model_is_an_error_and_not_there(theirs, tmp_path, console, monkeypatch):
    truth = verify.Exportable.truth
    monkeypatch.setattr(verify.Exportable, "truth", lambda *args: tuple(1.001 * x for x in truth(*args)))
    with pytest.raises(UserError, match=r"is not the model: on \d x 64x64 its outputs differ .* Nothing was written"):
        export(theirs.path, out=tmp_path / "net.onnx", console=console)
    assert not list(tmp_path.iterdir())


def test_a_mismatch_leaves_the_file_of_before(theirs, tmp_path, console, monkeypatch):
    (tmp_path / "net.onnx").write_text("before")
    monkeypatch.setattr(verify.Exportable, "truth", lambda self, x: (torch.full((len(x), 3), torch.nan),))
    with pytest.raises(UserError, match="is not the model"):
        export(theirs.path, out=tmp_path / "net.onnx", overwrite=True, console=console)
    assert (tmp_path / "net.onnx").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dtype="bfloat16"), "dtype must be 'float32' or 'float16' for --format onnx, got 'bfloat16'"),
        (dict(format="tflite"), "format must be 'onnx' or 'openvino' or 'pt2', got 'tflite'"),
        (dict(dynamic="batch,heigth"), "dynamic must be some of batch, height, width, or none, got 'heigth'. Did you"),
        (dict(size="20"), "size must be a side in pixels, or height x width as in 800x1088, at least 32, got '20'"),
        (dict(size=72, dynamic="height"), "height must be a multiple of 32 here, got 72"),
        (dict(batch=0), "batch must be a whole number of at least 1, got 0"),
        (dict(out="net.bin"), "a file of the format onnx ends in .onnx, got net.bin"),
        (dict(int8=True, format="onnx"), "--int8 goes with --format openvino"),
        (dict(int8=True, size="64x96"), "--int8 is measured on square images, as training is, got --size 64x96"),
        (dict(data="nowhere"), "there is no file or folder 'nowhere'"),
    ],
    ids=str,
)
def test_options_that_do_not_go_are_refused(theirs, tmp_path, console, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        export(theirs.path, console=console, **options)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over_unless_asked(theirs, tmp_path, console):
    (tmp_path / "net.xml").write_text("mine")
    with pytest.raises(UserError, match=r"net.xml exists already. Write over it by --overwrite"):
        export(theirs.path, format="openvino", out=tmp_path / "net.xml", console=console)


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_computed(theirs, tmp_path, console, monkeypatch):
    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), args[0])

    monkeypatch.setattr(os, "mkdir", read_only)
    monkeypatch.setattr(exporting, "make_exportable", lambda *args, **kwargs: pytest.fail("it was computed"))
    with pytest.raises(CannotWrite, match=r"cannot write .*net\.onnx: Read-only file system\. Make the folder"):
        export(theirs.path, out=tmp_path / "net.onnx", console=console)


def test_a_disk_that_is_full_is_said(theirs, tmp_path, console, monkeypatch):
    def full(program, outputs, texts, dtype, path):
        path.write_bytes(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(format_onnx, "write", full)
    with pytest.raises(CannotWrite, match=r"cannot write .*net\.onnx: No space left on device\. Make room there"):
        export(theirs.path, out=tmp_path / "net.onnx", console=console)
    assert not list(tmp_path.iterdir())


def test_mask_rcnn_is_refused_with_the_reason(photos, tmp_path, console):
    model = create_detector("maskrcnn", "test_resnet", 3, min_size=32, max_size=64)
    args = dict(head="maskrcnn", min_size=32, max_size=64)
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing={}, model_args=args)
    run = write_run(tmp_path / "run", model, photos, task="detect", **described)
    with pytest.raises(UserError, match="is a Mask R-CNN, which can't be exported: its second stage"):
        export(run.path, out=tmp_path / "net.onnx", console=console)


def test_without_a_compiler_there_is_no_package(theirs, tmp_path, console, monkeypatch):
    def none() -> str:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none)
    with pytest.raises(UserError, match=r"there is no compiler here: No working .* Install g\+\+ or clang"):
        export(theirs.path, format="pt2", out=tmp_path / "net.pt2", console=console)
    assert not list(tmp_path.iterdir())


def test_other_files_are_no_exports(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    (tmp_path / "bad.pt2").write_bytes(b"no model")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), str(tmp_path / "strange.onnx"))
    for name, message in {
        "bad.onnx": "can't be read as an ONNX file",
        "bad.pt2": "can't be read as a .pt2 package",
        "strange.onnx": "does not say what it is",
        "missing.onnx": "there is no file",
        "run.ckpt": "is no exported model. Accepted: files that end in .onnx, .xml, .pt2",
    }.items():
        with pytest.raises(UserError, match=message):
            read_metadata(tmp_path / name)
        with pytest.raises(UserError, match="can't be read as an ONNX file" if name == "strange.onnx" else message):
            load_exported(tmp_path / name)


# 8-bit integers


@pytest.mark.long
def test_int8_keeps_the_accuracy(theirs, tmp_path, console):
    file = export(theirs.path, int8=True, allow_accuracy_drop=100, out=tmp_path / "net.xml", console=console)
    assert read_metadata(file).dtype == "int8"
    said = console.file.getvalue()
    assert "held-out images" in said
    assert "convolutions and matrix products are in int8" in said
    assert " 0 of " not in said
    x = images(7, 64, 64)
    both = torch.stack([load_exported(file)(x).flatten(), load_trained(theirs.path).model(x).detach().flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95


def test_int8_needs_labelled_images(tmp_path, console):
    with pytest.raises(UserError, match=r"needs labelled images to calibrate on .*: give --data"):
        export("test_resnet@untrained", int8=True, size=64, out=tmp_path / "net.xml", console=console)
    assert not list(tmp_path.iterdir())


def test_predict_takes_an_exported_classifier_as_it_takes_the_run(ours, photos, tmp_path, console):
    file = export(ours.path, format="onnx", out=tmp_path / "ours.onnx", console=console)
    tables = []
    for name, model in (("run", ours.path), ("file", file)):
        out = transxnet.predict(model, photos, out=tmp_path / name, workers=0, console=console)
        tables.append([json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()])
    for by_run, by_file in zip(*tables, strict=True):
        shares = [{top["class"]: top["probability"] for top in line["top"]} for line in (by_run, by_file)]
        assert by_run["path"] == by_file["path"]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)
    with pytest.raises(UserError, match="weights of its own"):
        transxnet.predict(file, photos, out=tmp_path / "no", file="weights.pth", console=console)


@pytest.mark.parametrize(("size", "dynamic"), [("64x96", "batch"), ("96x64", "none")])
def test_predict_refuses_a_classifier_of_images_that_are_not_square(theirs, photos, tmp_path, console, size, dynamic):
    file = export(theirs.path, size=size, dynamic=dynamic, out=tmp_path / "wide.onnx", console=console)
    axis = "width" if size == "64x96" else "height"
    said = rf"brought to 64x64 pixels, and .*wide\.onnx takes images of {axis} 96, got 64\. .* square --size"
    with pytest.raises(UserError, match=said):
        transxnet.predict(file, photos, out=tmp_path / "no", workers=0, console=console)
