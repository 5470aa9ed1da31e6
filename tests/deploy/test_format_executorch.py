"""ExecuTorch programs."""

from pathlib import Path

import pytest
import torch

from tests.helpers.exports import CLASSES, assert_near, random_images
from transxnet import UserError, load_exported, read_metadata, verify
from transxnet.deploy.export import export
from transxnet.runs.load import load_model


@pytest.fixture(scope="module")
def file(theirs, quiet, tmp_path_factory) -> Path:
    pytest.importorskip("executorch")
    folder = tmp_path_factory.mktemp("executorch")
    return export(theirs.path, format="executorch", out=folder / "net.pte", console=quiet)


@pytest.mark.long
@torch.no_grad()
def test_program_gives_the_outputs_of_pytorch(theirs, file):
    exported, x = load_exported(file, threads=1), random_images(3, 64, 64)
    assert_near(exported(x), load_model(theirs.path).model(x))
    assert (exported.class_names, exported.metadata.batch, exported.metadata.dynamic) == (CLASSES, 1, ())


@pytest.mark.long
def test_file_is_verified_on_its_reference_image(file, quiet):
    assert verify(file, console=quiet).comparison.agreement == 1


@pytest.mark.long
@pytest.mark.parametrize("run", ["ours", "segmenter"])
@pytest.mark.parametrize("features", [False, True])
def test_every_task_is_verified(request, tmp_path, quiet, run, features):
    pytest.importorskip("executorch")
    options = dict(format="executorch", img_size=64, features=features, with_preprocessing=not features, console=quiet)
    file = export(request.getfixturevalue(run).path, out=tmp_path / "net.pte", **options)
    assert verify(file, console=quiet).comparison.relative < 1e-4


def test_other_files_are_refused(tmp_path):
    pytest.importorskip("executorch")
    (tmp_path / "bad.pte").write_bytes(b"no program")
    with pytest.raises(UserError, match=r"cannot read .*bad\.pte as an ExecuTorch program"):
        read_metadata(tmp_path / "bad.pte")


def test_unsupported_options_are_refused(theirs, detector, quiet):
    for path, options, message in [
        (
            detector.path,
            {},
            r"supports classifiers, segmenters and --features; .*boxes is a detector\. Use --format onnx",
        ),
        (theirs.path, dict(dynamic="height,width"), "takes one image of a fixed size, got --dynamic height,width"),
        (theirs.path, dict(end_to_end=True), "--end-to-end requires --format onnx or openvino, got executorch"),
        (theirs.path, dict(dtype="float16"), "dtype must be 'float32' for --format executorch, got 'float16'"),
    ]:
        with pytest.raises(UserError, match=message):
            export(path, format="executorch", console=quiet, **options)
