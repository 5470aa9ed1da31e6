"""The exported web page in a browser: its answers are those of the exported ONNX file."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.browser import assert_background, contrast, launch, open_browser, serve_folder
from transxnet import load_exported
from transxnet.data.reading.image_decoding import open_image
from transxnet.data.reading.pixels import pixels_to_tensor
from transxnet.deploy.export import export
from transxnet.deploy.onnxruntime_web import VERSION, package_file
from transxnet.heads.detector_transform import float_images

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
pytestmark = pytest.mark.long

TIMEOUT = 120_000  # ms; the machine may be busy
SIZES = ((90, 70), (300, 200), (41, 250))  # width and height
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
KEEP_RESULTS = "window.results = []; document.addEventListener('prediction', e => window.results.push(e.detail))"

WAIT = """([number, timeout]) => new Promise((done, fail) => {
    const text = () => JSON.stringify(window.results[number], (k, v) => ArrayBuffer.isView(v) ? Array.from(v) : v);
    const wait = () => window.results.length > number ? done(text()) : setTimeout(wait, 20);
    setTimeout(() => fail(new Error(document.querySelector("#problem").textContent || "no result")), timeout);
    wait();
})"""  # Playwright's wait_for_function needs eval, which the page's policy forbids


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    if not package_file().is_file():
        pytest.skip(f"onnxruntime-web {VERSION} is not in the cache; transxnet export --format web downloads it")


@pytest.fixture(scope="module")
def page_of(request, tmp_path_factory, quiet):
    """A function that exports the page of a run of conftest.py, once."""
    pages: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in pages:
            out = tmp_path_factory.mktemp("pages") / name
            pages[name] = export(request.getfixturevalue(name).path, format="web", out=out, console=quiet)
        return pages[name]

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with open_browser(*FAKE_CAMERA) as opened:
        yield opened


class Visit:
    """An open page, with its results, console errors and requests to other hosts."""

    def __init__(self, browser, url: str, width: int = 1280, dark: bool = False, ready: str = "Choose an image"):
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.context.set_default_timeout(TIMEOUT)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url, url))
        self.page.add_init_script(KEEP_RESULTS)
        self.page.goto(url)
        self.expect_text("#headline", ready)

    def _check(self, requested: str, own: str) -> None:
        if not requested.startswith((own, "data:", "blob:")):
            self.problems.append(f"request to {requested}")

    def expect_text(self, selector: str, text: str | re.Pattern) -> None:
        expect(self.page.locator(selector)).to_contain_text(text, timeout=TIMEOUT)

    def predict(self, content: bytes, name: str = "image.png") -> dict:
        """Choose a file, and return the page's result with unrounded numbers."""
        before = self.page.evaluate("window.results.length")
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.locator("#file").set_input_files(file)
        return self.result(before)

    def result(self, number: int) -> dict:
        """Wait for the result with this number; arrays of bytes are lists."""
        return json.loads(self.page.evaluate(WAIT, [number, TIMEOUT]))

    def close(self) -> None:
        self.context.close()


def photo(size: tuple[int, int], format: str = "PNG", **options) -> bytes:
    """A smooth image with an edge; noise would hide errors of resizing."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([x, y, (np.hypot(x - 0.4, y - 0.6) < 0.25) * 0.9], -1) * 255
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, format, **options)
    return file.getvalue()


def assert_equals_the_file(result: dict, content: bytes, model) -> None:
    """Compare the page's result with that of the ONNX file, which is prepared by this package."""
    image = open_image(content)
    if model.task == "classify":
        expected = model.probabilities(model.preprocessing.transform()(image)[None])[0]
        np.testing.assert_allclose(result["probabilities"], expected, atol=1e-4)
        return
    pixels = pixels_to_tensor(image)
    if model.task == "segment":
        labels = np.array(result["labels"]).reshape(image.height, image.width)
        assert (labels == model.segmenter_logits(pixels).argmax(0).numpy()).mean() > 0.998
        return
    found, expected = result["detections"], model.detect(float_images([pixels])[0])
    assert len(found) == len(expected["scores"]) > 0
    np.testing.assert_allclose([each["score"] for each in found], expected["scores"], atol=1e-4)
    for each, score in zip(found, expected["scores"].tolist(), strict=True):  # equal scores may change places
        same = (expected["scores"] - score).abs() < 1e-4
        same &= expected["labels"] == each["label"] + 1
        distances = (expected["boxes"][same] - torch.tensor(each["box"])).abs().amax(1)
        assert distances.min() < 0.05
        if "masks" in expected:
            mask, area = each["mask"], np.zeros((image.height, image.width), bool)
            rows, columns = (
                slice(mask["top"], mask["top"] + mask["height"]),
                slice(mask["left"], mask["left"] + mask["width"]),
            )
            area[rows, columns] = np.array(mask["inside"]).reshape(mask["height"], mask["width"])
            assert (area == expected["masks"][same][distances.argmin()].numpy()).mean() > 0.998


@pytest.mark.parametrize("run", ["ours", "theirs", "detector", "mask_detector", "segmenter"])
def test_results_equal_those_of_the_file_without_network(browser, page_of, run):
    folder = page_of(run)
    model = load_exported(folder / "model.onnx")
    with serve_folder(folder) as url:
        visit = Visit(browser, url)
    visit.context.set_offline(True)  # and the server has ended
    for size in SIZES:
        content = photo(size)
        assert_equals_the_file(visit.predict(content), content, model)
    visit.expect_text("#time", re.compile(r"^\d+ ms, of which the model \d+ ms$"))
    visit.expect_text("#runtime", "Computed with WebAssembly, 1 thread")
    assert visit.problems == []
    visit.close()


def test_jpeg_rotation_and_transparency_are_decoded_as_by_predict(browser, page_of):
    folder = page_of("theirs")
    model = load_exported(folder / "model.onnx")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    transparent = io.BytesIO()
    Image.open(io.BytesIO(photo((90, 70)))).convert("RGBA").save(transparent, "PNG")
    faded = Image.open(transparent)
    faded.putalpha(Image.linear_gradient("L").resize(faded.size))
    transparent = io.BytesIO()
    faded.save(transparent, "PNG")
    with serve_folder(folder) as url:
        visit = Visit(browser, url)
        for content in (photo((300, 200), "JPEG", quality=90, exif=exif.tobytes()), transparent.getvalue()):
            result = visit.predict(content)
            image = model.preprocessing.transform()(open_image(content))[None]
            np.testing.assert_allclose(result["probabilities"], model.probabilities(image)[0], atol=5e-3)
        assert visit.problems == []
        visit.close()


def test_isolated_host_allows_threads(browser, page_of):
    folder = page_of("theirs")
    with serve_folder(folder, ISOLATION) as url:
        visit = Visit(browser, url)
        threads = min(visit.page.evaluate("navigator.hardwareConcurrency"), 8)
        visit.expect_text("#runtime", f"WebAssembly, {threads} thread")
        content = photo(SIZES[0])
        assert_equals_the_file(visit.predict(content), content, load_exported(folder / "model.onnx"))
        assert visit.problems == []
        visit.close()


@pytest.mark.parametrize("run", ["ours", "detector", "segmenter"])
def test_webgpu_computes_the_same(browser, page_of, run):
    folder, content = page_of(run), photo(SIZES[0])
    other = launch(browser.browser_type, *SOFTWARE_GPU)
    with serve_folder(folder) as url, closing(other):
        visit = Visit(other, url)
        if not visit.page.evaluate("navigator.gpu?.requestAdapter().then(Boolean) ?? false"):
            pytest.skip("this browser has no WebGPU in software")
        visit.expect_text("#runtime", "Computed with WebGPU")
        assert_equals_the_file(visit.predict(content), content, load_exported(folder / "model.onnx"))
        visit.close()


def test_runtime_that_computes_wrong_values_is_not_used(browser, page_of, tmp_path):
    folder = Path(shutil.copytree(page_of("theirs"), tmp_path / "page"))
    text = (folder / "index.html").read_text()
    (folder / "index.html").write_text(re.sub(r'"values": \[[^,]*', '"values": [99', text))
    with serve_folder(folder) as url:
        visit = Visit(browser, url, ready="The model cannot be loaded")
        visit.expect_text("#problem", "WebAssembly is not used: its outputs differ from the expected ones by")
        visit.close()


def test_missing_model_is_reported(browser, page_of, tmp_path):
    folder = Path(shutil.copytree(page_of("theirs"), tmp_path / "page"))
    (folder / "model.onnx").unlink()
    with serve_folder(folder) as url:
        visit = Visit(browser, url, ready="The model cannot be loaded")
        visit.expect_text("#problem", "cannot load model.onnx: 404")
        visit.close()


def test_page_from_disk_explains_how_to_serve_it(browser, page_of):
    visit = Visit(browser, (page_of("theirs") / "index.html").as_uri(), ready="The model cannot be loaded")
    visit.expect_text("#problem", "python -m http.server")
    visit.close()


def test_bad_file_is_reported_and_the_next_image_hides_it(browser, page_of):
    with serve_folder(page_of("theirs")) as url:
        visit = Visit(browser, url)
        visit.page.locator("#file").set_input_files({"name": "words.png", "mimeType": "image/png", "buffer": b"words"})
        alert = visit.page.get_by_role("alert")
        expect(alert).to_contain_text("Cannot open words.png: it is not an image", timeout=TIMEOUT)
        visit.predict(photo(SIZES[0]))
        expect(alert).to_be_hidden()
        assert visit.problems == []
        visit.close()


DROP = """async ([type, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "image.png", {type: "image/png"}));
    const options = {bubbles: true, cancelable: true};
    document.querySelector("main").dispatchEvent(type === "paste"
        ? new ClipboardEvent("paste", {...options, clipboardData: data})
        : new DragEvent("drop", {...options, dataTransfer: data}));
}"""


def test_images_are_dropped_pasted_and_taken_by_the_camera(browser, page_of):
    with serve_folder(page_of("theirs")) as url:
        visit = Visit(browser, url)
        for number, type in enumerate(("drop", "paste")):
            visit.page.evaluate(DROP, [type, list(photo(SIZES[0]))])
            visit.result(number)
        assert visit.page.evaluate("window.results[0].probabilities") == visit.page.evaluate(
            "window.results[1].probabilities"
        )
        button = visit.page.locator("#camera")
        button.click()
        visit.result(4)  # frames follow each other
        expect(visit.page.locator("#video")).to_be_visible()
        expect(button).to_have_text("Stop the camera")
        button.click()
        expect(visit.page.locator("#video")).to_be_hidden()
        expect(visit.page.locator("#image")).to_be_visible()
        expect(button).to_have_attribute("aria-pressed", "false")
        assert visit.problems == []
        visit.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("run", ["theirs", "mask_detector", "segmenter"])
def test_page_fits_and_is_legible(browser, page_of, run, width, dark):
    with serve_folder(page_of(run)) as url:
        visit = Visit(browser, url, width, dark)
        visit.predict(photo(SIZES[1]))
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert_background(visit.page, dark)
        for selector in ("h1", "#headline", "header .muted", "#camera", "#time"):
            assert contrast(visit.page, selector) >= 4.5, selector
        assert visit.problems == []
        visit.close()


def test_page_is_usable_by_keyboard_and_screen_reader(browser, page_of):
    with serve_folder(page_of("detector")) as url:
        visit = Visit(browser, url)
        visit.predict(photo(SIZES[1]))
        seen = []
        for _ in range(3):
            visit.page.keyboard.press("Tab")
            seen.append(visit.page.evaluate("document.activeElement.id"))
        assert seen == ["file", "camera", "threshold"]
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert visit.page.evaluate(outline) != "none"
        headline = visit.page.locator("#headline")
        for key, texts in {"Home": r"^\d+ detection", "End": "^No detections$"}.items():
            visit.page.keyboard.press(key)
            expect(headline).to_have_text(re.compile(texts), timeout=TIMEOUT)
        expect(visit.page.get_by_role("img", name="Image: No detections")).to_be_visible()
        expect(visit.page.locator("#announced[role=status]")).to_contain_text("No detections")
        expect(visit.page.get_by_role("slider", name=re.compile("Minimum score"))).to_be_visible()
        visit.close()
