"""A Chromium installed on this machine, and folders served to it."""

import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")


@contextmanager
def open_browser(*arguments: str) -> Iterator[Any]:
    """Open a browser without a window; the test is skipped if none is installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tools:
        opened = launch(tools.chromium, *arguments)
        yield opened
        opened.close()


def launch(chromium: Any, *arguments: str) -> Any:
    """Launch an installed browser of this type, or skip the test."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    return chromium.launch(executable_path=program, args=["--no-sandbox", *arguments])


@contextmanager
def serve_folder(folder: Path, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve a folder on loopback as ``python -m http.server`` does, with further headers; yields its URL."""

    class Handler(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def assert_background(page: Any, dark: bool) -> None:
    """Fail unless the background of a page is dark, or light."""
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(c) for c in re.findall(r"\d+", paper)[:3]]
    assert (max(channels) < 64) if dark else (min(channels) > 192)


def contrast(page: Any, selector: str) -> float:
    """Contrast between a text and the background of the page, as defined by WCAG 2."""
    script = """selector => [getComputedStyle(document.querySelector(selector)).color,
                             getComputedStyle(document.body).backgroundColor]"""
    luminances = []
    for color in page.evaluate(script, selector):
        values = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        luminances.append(float(np.dot((0.2126, 0.7152, 0.0722), linear)))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)
