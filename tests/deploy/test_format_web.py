"""The folder of a web page, without a browser; test_model_page.py opens it in one, and
test_model_worker.py runs its scripts."""

import base64
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.helpers.exports import CLASSES, described
from tests.helpers.html_page import Page
from tests.helpers.runtime_package import use_package, write_package
from transxnet import UserError, load_exported, read_metadata
from transxnet.deploy import format_web
from transxnet.deploy.export import export
from transxnet.deploy.format_web import WebFormat, check_images
from transxnet.deploy.onnxruntime_web import LICENSES, RUNTIMES, package_file


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    """A package in the cache, without the runtime itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        use_package(write_package(package_file()), patch)
        yield


@pytest.fixture(scope="module")
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def page(theirs, tmp_path_factory, printed):
    """The page of a classifier."""
    folder = tmp_path_factory.mktemp("pages") / "page"
    return export(theirs.path, format="web", out=folder, console=Console(file=printed, width=200))


def test_folder_has_the_page_the_model_and_the_runtime_only(page):
    runtime = {f"onnxruntime-web/{name}" for each in RUNTIMES for name in each.files}
    licenses = {f"onnxruntime-web/{name}" for name in LICENSES}
    files = {file.relative_to(page).as_posix() for file in page.rglob("*") if file.is_file()}
    assert files == {"index.html", "model.onnx"} | runtime | licenses


def test_export_reports_size_and_latency(page, printed):
    output = printed.getvalue()
    assert re.search(
        rf"{page}  [\d.]+ MB\n  model [\d.]+ MB; a browser downloads [\d.]+ MB with WebAssembly or ", output
    )
    assert re.search(r"latency \d+ ms at 64x64 in ONNX Runtime on one thread of this CPU, median of 5 runs", output)
    assert f"try it: python -m http.server -d {page}" in output


def test_model_is_an_exported_file_without_private_data(page, theirs):
    metadata = read_metadata(page / "model.onnx")
    assert (metadata.source, metadata.reference) == (theirs.path.name, {})
    assert metadata.versions["onnxruntime-web"] == "1.30.0"
    assert (metadata.batch, metadata.dynamic, metadata.size) == (1, (), (64, 64))
    assert str(theirs.path.parent).encode() not in (page / "model.onnx").read_bytes()
    assert load_exported(page / "model.onnx").probabilities(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_page_allows_its_own_scripts_and_no_other_host(page):
    text = (page / "index.html").read_text()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    for element in ("script", "style"):
        content = re.search(rf'<{element}(?: type="module")?>(.*?)</{element}>', text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src" in policy and f"'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy and "unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")
    assert re.findall(r"https?://[^\s\"'<)]+", text) == ["http://localhost:8000"]  # in a message


def test_settings_hold_what_the_scripts_need(page):
    settings = embedded(page)
    assert (settings["task"], settings["class_names"], settings["size"]) == ("classify", CLASSES, [64, 64])
    assert settings["model_bytes"] == (page / "model.onnx").stat().st_size
    for runtime in settings["runtimes"]:
        assert (page / runtime["script"]).is_file() and (page / runtime["binary"]).is_file()
    (check,) = settings["check"]["outputs"]
    assert check["name"] == "logits" and check["positions"] == [0, 1, 2]
    images = check_images((64, 64))
    np.testing.assert_allclose(load_exported(page / "model.onnx")(images)[0], check["values"], rtol=1e-5)


def embedded(page) -> dict:
    text = re.search('<script type="application/json" id="settings">(.*?)</script>', (page / "index.html").read_text())[
        1
    ]
    return json.loads(text)


def test_page_closes_its_tags_and_labels_existing_elements(page):
    document = Page((page / "index.html").read_text())
    assert len(document.ids) == len(set(document.ids))
    labeled = {value for name, value in document.attributes if name in ("for", "aria-labelledby")}
    assert labeled <= set(document.ids)


def test_class_names_cannot_end_the_script(page):
    metadata = described(class_names=["</script><b>", "a & b"], source="run", size=(64, 64))
    metadata.resize["img_size"] = 64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(format_web, "expected_outputs", lambda *args: {})
        text = format_web.render_page(metadata, page)
    assert "</script><b>" not in text
    assert "&lt;/script&gt;&lt;b&gt;, a &amp; b" in text
    assert text.count("</script>") == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(task="features"), "feature maps. Remove --features"),
        (dict(channels=3), "images of 3 channels"),
        (dict(input="uint8"), "--with-preprocessing and --end-to-end"),
        (dict(batch=4), "batches of 4 images. Remove --batch-size"),
        (dict(task="detect", resize=dict(min_size=64, max_size=128, tile=64)), "models that were trained on tiles"),
        (dict(task="detect", resize=dict(opencv_resize=True)), "the resizing of published detectors and segmenters"),
        (dict(task="segment", resize=dict(as_published=True)), "the resizing of published detectors and segmenters"),
        (dict(resize=dict(img_size=32, crop_pct=1.0, interpolation="lanczos")), "lanczos interpolation"),
        (dict(size=(32, 64)), "classifiers of other images than square ones"),
    ],
    ids=str,
)
def test_unsupported_models_are_refused(console, changes, message):
    with pytest.raises(UserError) as error:
        WebFormat().prepare(described(**changes), console)
    assert f"--format web does not support {message}. Accepted: " in str(error.value)


def test_page_is_overwritten_only_if_allowed(page, theirs, tmp_path, console):
    with pytest.raises(UserError, match=r"page already exists\. Use --overwrite"):
        export(theirs.path, format="web", out=page, console=console)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"contains other files than a web page: thesis\.txt\. Choose another --out"):
        export(theirs.path, format="web", out=tmp_path, overwrite=True, console=console)
    with pytest.raises(UserError, match="is a file, but a web page is a folder"):
        export(theirs.path, format="web", out=tmp_path / "thesis.txt", overwrite=True, console=console)
    (tmp_path / "scratch").mkdir()
    before = (page / "index.html").read_text()
    (page / "index.html").write_text("earlier")
    file = Path(shutil.copy(page / "model.onnx", tmp_path / "scratch" / "page"))
    WebFormat().publish(file, page)
    assert (page / "index.html").read_text() == before
    assert [each.name for each in page.parent.iterdir()] == [page.name]


def test_default_folder_is_named_after_the_model(theirs, tmp_path, console, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs-web").write_text("mine")
    with pytest.raises(UserError, match="theirs-web is a file, but a web page is a folder"):
        export(theirs.path, format="web", console=console)
