"""Exported files are checked on the image that they contain."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from tests.helpers.exports import SUFFIX
from transxnet import UserError, verify
from transxnet.deploy.export import export


@pytest.fixture(scope="module")
def classifier(theirs, quiet, tmp_path_factory) -> Path:
    return export(theirs.path, out=tmp_path_factory.mktemp("onnx") / "net.onnx", console=quiet)


def changed(file: Path, key: str, text: str) -> Path:
    """Change one value of an ONNX file's metadata."""
    model = onnx.load(str(file))
    next(entry for entry in model.metadata_props if entry.key == f"transxnet.{key}").value = text
    onnx.save(model, str(file))
    return file


def test_a_copied_file_is_verified_and_timed(classifier, tmp_path):
    copy, console = Path(shutil.copy(classifier, tmp_path / "copy.onnx")), Console(file=io.StringIO(), width=200)
    result = verify(copy, console=console)
    assert result.comparison.relative < 1e-4
    assert result.comparison.agreement == 1
    assert result.latency > 0
    lines = console.file.getvalue().splitlines()
    assert lines[0] == f"{copy}: classify in float32"
    assert lines[1].startswith("  verified at batch size 1, 64x64: maximum absolute difference")
    assert lines[2].startswith("  latency at batch size 1: ") and lines[2].endswith(" ms, median of 7 runs")


def test_a_changed_weight_is_an_error(classifier, tmp_path, quiet):
    model = onnx.load(str(classifier))
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.dims))
    values = onnx.numpy_helper.to_array(weight).copy()
    values += 0.5  # one value may be of a channel that ReLU zeroes
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(tmp_path / "net.onnx"))
    with pytest.raises(
        UserError, match=r"net\.onnx differ from the expected ones by .*, accepted in float32: 0\.0001\. Export the"
    ):
        verify(tmp_path / "net.onnx", console=quiet)


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "run", ["ours", *(pytest.param(run, marks=pytest.mark.long) for run in ("detector", "segmenter"))]
)
def test_every_task_is_verified(request, tmp_path, quiet, run, format):
    path = request.getfixturevalue(run).path
    options = dict(format=format, img_size=64, dynamic="none", console=quiet)
    file = export(path, out=tmp_path / f"net{SUFFIX[format]}", **options)
    assert verify(file, console=quiet).comparison.relative <= 1e-4


@pytest.mark.parametrize("run", ["theirs", pytest.param("segmenter", marks=pytest.mark.long)])
def test_float16_stays_within_its_tolerance(request, tmp_path, quiet, run):
    path = request.getfixturevalue(run).path
    options = dict(dtype="float16", img_size=64, dynamic="none", console=quiet)
    file = export(path, out=tmp_path / "net.onnx", **options)
    assert 1e-5 < verify(file, console=quiet).comparison.relative <= 1e-2
    weights = onnx.load(str(file)).graph.initializer
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in weights}


def test_uint8_input_with_a_fixed_batch_is_verified(theirs, tmp_path, quiet):
    options = dict(dynamic="none", batch_size=3, with_preprocessing=True, features=True, console=quiet)
    file = export(theirs.path, out=tmp_path / "net.onnx", **options)
    assert verify(file, console=quiet).comparison.batch == 3


@pytest.mark.long
def test_compiled_packages_are_verified(theirs, tmp_path, quiet):
    file = export(theirs.path, format="pt2", out=tmp_path / "net.pt2", console=quiet)
    assert verify(file, console=quiet).comparison.relative <= 1e-4


def test_a_file_without_reference_is_refused(classifier, tmp_path, quiet):
    file = changed(Path(shutil.copy(classifier, tmp_path)), "reference", "{}")
    with pytest.raises(UserError, match=r"net\.onnx contains no reference image, since an older version"):
        verify(file, console=quiet)


@pytest.mark.parametrize(
    "damage",
    [
        lambda reference: reference.pop("outputs"),
        lambda reference: reference.update(image=reference["image"][:200]),
        lambda reference: reference["outputs"][0].update(shape=[1, np.iinfo(int).max]),
        lambda reference: reference["outputs"][0].update(positions=[3], shape=[3]),
        lambda reference: reference["outputs"].append(reference["outputs"][0]),
    ],
    ids=["no outputs", "truncated image", "huge shape", "positions", "more outputs"],
)
def test_a_damaged_reference_is_refused(classifier, tmp_path, quiet, damage):
    file = Path(shutil.copy(classifier, tmp_path))
    texts = {entry.key: entry.value for entry in onnx.load(str(file)).metadata_props}
    reference = json.loads(texts["transxnet.reference"])
    damage(reference)
    changed(file, "reference", json.dumps(reference))
    with pytest.raises(UserError, match=r"the reference image or its outputs in .*net\.onnx are damaged"):
        verify(file, console=quiet)
