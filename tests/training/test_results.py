"""Analyses of trained runs, and Grad-CAM in their reports."""

import sys

import pytest
from PIL import Image

from transxnet.analysis import explain as explaining
from transxnet.analysis.erf import erf
from transxnet.analysis.explain import explain
from transxnet.runs.load import load_trained
from transxnet.training import results
from transxnet.utils.errors import UserError


def test_the_report_shows_what_the_answers_rest_on_or_says_what_to_install(photos_run):
    pytest.importorskip("pytorch_grad_cam")
    page = photos_run.report_file.read_text(encoding="utf-8")
    section = page[page.index('<section id="reasons">') : page.index('<section id="calibration">')]
    assert "stage 4" in section
    assert section.count("data:image/jpeg") % 2 == 0
    assert "Not shown" not in section


def test_a_run_is_explained_with_its_classes_and_its_size(photos_run, photos, quiet):
    pytest.importorskip("pytorch_grad_cam")
    (found,) = explain(photos_run.path, photos / "red" / "000.png", class_name="red", out=None, console=quiet)
    assert found.class_name == "red"
    assert found.picture.shape == (32, 32, 3)
    (field,) = erf(f"{photos_run.path}:layer3", photos, images=3, out=None, console=quiet)
    assert (field.density.shape, field.place, field.untrained) == ((32, 32), "layer3", False)


@pytest.mark.parametrize("failure", [lambda *a, **k: 1 / 0, None])
def test_whatever_goes_wrong_is_said_and_loses_no_report(failure, photos_run, monkeypatch):
    trained = load_trained(photos_run.path)
    if failure is None:
        monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)  # as if it were not installed
    else:
        monkeypatch.setattr(explaining, "make_case", failure)
    monkeypatch.setattr(results, "_picture_by_order", lambda images: lambda i: Image.new("RGB", (24, 24)))
    said = r"transxnet\[explain\]" if failure is None else "Grad-CAM fails on this network: ZeroDivisionError"
    with pytest.raises(UserError, match=said):
        results._reasons_by_order(trained, None)(0)
