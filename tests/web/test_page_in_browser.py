"""The page in a browser: what a user sees and does, without errors in the console."""

import io
import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import assert_background, contrast, open_browser
from tests.helpers.class_folders import write_photos
from tests.helpers.untrained_runs import make_untrained_run

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

TIMEOUT = 60_000  # ms; the machine may be busy
WIDE, NARROW = 1600, 360
LONG_NAME = "a_class_with_a_name_that_is_far_longer_than_any_screen_of_a_phone_is_wide_and_has_no_spaces"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A Chromium installed on this machine."""
    with open_browser() as opened:
        yield opened


class Visit:
    """An open page, with console errors and requests to other hosts."""

    def __init__(self, browser, url: str, width: int = 1280, dark: bool = False):
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(TIMEOUT)
        self.page = context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url, url))
        self.page.goto(url)
        expect(self.page.locator("#upload input[type=file]")).to_be_attached(timeout=TIMEOUT)

    def _check(self, requested: str, own: str) -> None:
        if not requested.startswith((own, "data:", "blob:")):
            self.problems.append(f"request to {requested}")

    def upload(self, name: str, content: bytes, kind: str = "image/png") -> None:
        file = {"name": name, "mimeType": kind, "buffer": content}
        self.page.locator("#upload input[type=file]").set_input_files(file)

    def expect_text(self, selector: str, text: str | re.Pattern) -> None:
        expect(self.page.locator(selector)).to_contain_text(text, timeout=TIMEOUT)

    def pixels(self, selector: str) -> np.ndarray:
        """(N, 3) colors of a rendered image on the page."""
        image = self.page.locator(f"{selector} img")
        expect(image).to_be_visible(timeout=TIMEOUT)
        self.page.wait_for_function(f"document.querySelector('{selector} img').naturalWidth > 0")
        shot = Image.open(io.BytesIO(image.screenshot())).convert("RGB")
        return np.asarray(shot).reshape(-1, 3).astype(int)

    def fits(self) -> bool:
        """Whether the page fits its width without horizontal scrolling."""
        return self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    def close(self) -> None:
        self.page.context.close()


def png_of_color(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), color).save(file, "PNG")
    return file.getvalue()


def test_upload_is_predicted_and_explained_and_bad_file_rejected(browser, serve, photos_run):
    visit = Visit(browser, serve(photos_run).url)
    visit.expect_text("#message", "Upload an image or select an example.")
    visit.upload("red.png", png_of_color((220, 50, 40)))
    visit.expect_text("#prediction .rows", re.compile(r"%"))
    assert visit.page.locator("#prediction .rows li").count() == 3
    shares = [float(w) for w in re.findall(r"--share: ([\d.]+)%", visit.page.locator("#prediction").inner_html())]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert np.abs(np.median(visit.pixels("#predicted-image"), 0) - (220, 50, 40)).max() <= 8
    visit.expect_text("#heat-map-text", re.compile("at stage 4"))
    visit.page.get_by_label("IDConv, local branch").check()
    visit.expect_text("#heat-map-text", "at IDConv, local branch")
    visit.upload("words.png", b"not an image")
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("cannot use words.png: not an image, or an unsupported format", timeout=TIMEOUT)
    expect(visit.page.locator("#result")).to_be_hidden()
    visit.page.locator("#examples button").first.click()
    visit.expect_text("#prediction .rows", re.compile(r"%"))
    expect(alert).to_be_hidden()
    assert visit.fits()
    assert visit.problems == []
    visit.close()


@pytest.mark.long
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("kind", ["photos_run", "boxes_run", "masks_run", "maps_run"])
def test_every_task_at_every_width_in_light_and_dark(browser, serve, kind, width, dark, request):
    visit = Visit(browser, serve(request.getfixturevalue(kind)).url, width, dark)
    visit.page.locator("#examples button").first.click()
    visit.expect_text("#prediction h2", re.compile(r"\w"))
    visit.expect_text("#heat-map-text", re.compile("stage 4|No Grad-CAM"))
    assert visit.fits()
    assert_background(visit.page, dark)
    for selector in ("h1", "#prediction h2", "header .muted"):
        assert contrast(visit.page, selector) >= 4.5, selector
    assert visit.problems == []
    visit.close()


@pytest.mark.long
def test_min_score_filters_the_shown_detections(browser, serve, boxes_run):
    visit = Visit(browser, serve(boxes_run).url)
    visit.page.locator("#examples button").first.click()
    visit.expect_text("#prediction h2", re.compile("detection"))
    slider = visit.page.locator("#score-threshold input[type=range]")
    slider.focus()
    counts = []
    for key in ("End", "Home"):
        before = visit.page.locator("#prediction h2").inner_text()
        slider.press(key)
        expect(visit.page.locator("#prediction h2")).not_to_have_text(before, timeout=TIMEOUT)
        counts.append(int("0" + "".join(re.findall(r"\d+", visit.page.locator("#prediction h2").inner_text()))))
    assert counts[0] < counts[1]
    assert visit.problems == []
    visit.close()


@pytest.mark.long
def test_page_is_usable_by_keyboard(browser, serve, photos_run):
    visit = Visit(browser, serve(photos_run).url)
    expect(visit.page.get_by_label("Thumbnail 3 of 3")).to_be_visible(timeout=TIMEOUT)
    seen = []
    for _ in range(8):
        visit.page.keyboard.press("Tab")
        script = "e => [e.tagName, e.getAttribute('aria-label'), getComputedStyle(e).outlineStyle]"
        seen.append(visit.page.evaluate(f"({script})(document.activeElement)"))
    labels = [label for _, label, _ in seen if label]
    assert "Click to upload or drop files" in labels
    assert "Thumbnail 1 of 3" in labels
    assert all(outline != "none" for tag, _, outline in seen if tag == "BUTTON")
    visit.page.get_by_label("Thumbnail 2 of 3").focus()
    visit.page.keyboard.press("Enter")
    visit.expect_text("#prediction .rows", re.compile("%"))
    visit.expect_text("#heat-map-text", re.compile("at stage 4"))
    visit.page.get_by_label("STE, fusion").focus()
    visit.page.keyboard.press("Space")
    visit.expect_text("#heat-map-text", "at STE, fusion")
    assert visit.problems == []
    visit.close()


@pytest.mark.long
def test_long_class_names_fit_a_phone(browser, serve, tmp_path):
    data = write_photos(tmp_path / "photos", 3, names=("red", "green"))
    (data / "red").rename(data / LONG_NAME)
    run = make_untrained_run(tmp_path / "run", data, img_size=64)
    visit = Visit(browser, serve(run).url, NARROW)
    visit.page.locator("#examples button").first.click()
    visit.expect_text("#prediction .rows", LONG_NAME)
    visit.expect_text("#heat-map-text", re.compile("stage 4"))
    assert visit.fits()
    visit.close()


@pytest.mark.long
def test_large_files_and_other_formats_are_rejected(browser, serve, photos_run):
    visit = Visit(browser, serve(photos_run, max_size=1).url)
    visit.upload("large.png", b"\0" * 1_100_000)
    visit.expect_text("#rejected", "Cannot use large.png: 1.1 MB is over the limit of 1 MB.")
    visit.upload("notes.txt", b"words", "text/plain")
    visit.expect_text("#rejected", "Cannot use notes.txt: not an image, or an unsupported format.")
    visit.upload("broken.png", b"no image")
    expect(visit.page.locator("#message .error")).to_be_visible(timeout=TIMEOUT)
    expect(visit.page.locator("#rejected p")).to_be_hidden()
    visit.upload("large.png", b"\0" * 1_100_000)
    visit.expect_text("#rejected", "Cannot use large.png: 1.1 MB is over the limit of 1 MB.")
    expect(visit.page.locator("#message .error")).to_be_hidden()
    visit.page.locator("#examples button").first.click()
    visit.expect_text("#prediction .rows", re.compile("%"))
    expect(visit.page.locator("#rejected p")).to_be_hidden()
    visit.upload("large.png", b"\0" * 1_100_000)
    visit.upload("red.png", png_of_color((220, 50, 40)))
    visit.expect_text("#prediction .rows", re.compile("%"))
    expect(visit.page.locator("#rejected p")).to_be_hidden()
    assert visit.problems == []
    visit.close()


@pytest.mark.long
def test_missing_data_is_reported_on_the_page(browser, serve, tmp_path):
    data = write_photos(tmp_path / "photos", 3)
    run = make_untrained_run(tmp_path / "run", data, img_size=64)
    shutil.rmtree(data)
    visit = Visit(browser, serve(run).url, NARROW)
    visit.expect_text("#no-examples", "No examples: cannot open the data of the run")
    visit.upload("red.png", png_of_color((220, 50, 40)))
    visit.expect_text("#prediction .rows", re.compile("%"))
    assert visit.fits()
    assert visit.problems == []
    visit.close()
