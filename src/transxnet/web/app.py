"""The command ``app``: serve the web page, with its limits and security headers."""

import logging
import os
import socket
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.runs.load import load_model
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import check_at_least
from transxnet.utils.optional_packages import require_package
from transxnet.utils.progress import PLAIN
from transxnet.web.server_address import host_of, is_loopback, listen, url_of

_TEMPLATES = Path(__file__).parents[1] / "templates"

# The browser must load nothing from other hosts, even if Gradio or an extension requests it.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = {
    b"content-security-policy": _CONTENT_SECURITY_POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


@dataclass
class ServedPage:
    """A page that is being served in the background.

    Attributes:
        url: URL for a browser on this machine.
    """

    url: str
    _server: Any
    _thread: threading.Thread

    def close(self) -> None:
        """Stop serving and delete the uploads."""
        self._server.should_exit = True
        self._thread.join()


def app(
    run: str | Path,
    *,
    file: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    device: str = "auto",
    tta: bool = False,
    examples: int = 8,
    max_size: int = 20,
    wait: bool = True,
    console: Console | None = None,
) -> ServedPage | None:
    """Serve a web page to try a trained model on any image, with predictions and Grad-CAM.

    Anyone who can reach the address can use the page; it has no password. All its content comes from this machine, and
    no usage data is sent. Uploads are deleted after about an hour, or when the server stops.

    Args:
        run: run folder, or name of a model with published weights.
        file: file with published weights, for a model by name.
        host: address to listen on; by default only this machine; 0.0.0.0 for everyone who can reach this machine.
        port: port to listen on; by default the first free one from 7860.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one.
        tta: test-time augmentation: merge the outputs of each image and of its horizontal flip. Takes twice the time.
        examples: maximum number of validation images of the run to show; 0 for none, without opening its data.
        max_size: maximum size of an upload in MB.
        wait: serve until Ctrl-C; otherwise serve in the background.
        console: console to print to; by default standard output.

    Returns:
        The served page, if ``wait`` is not set.

    Raises:
        UserError: Gradio is not installed, the model cannot be opened, or the address or device is not available.
    """
    require_package("gradio", "transxnet[app]", "The web page")
    console = console or Console()
    check_at_least(0, examples=examples)
    check_at_least(1, max_size=max_size)
    resolve_device(device)
    listening = listen(host, port)
    try:
        server = _prepare(run, file, device, tta, listening, examples, max_size, console)
    except BaseException:
        listening.close()
        raise
    if not is_loopback(listening):
        console.print(
            f"warning: other machines can reach the page on {host}, and it has no password. "
            "Omit --host to restrict it to this machine.",
            style="yellow",
            **PLAIN,
        )
    url = url_of(listening)
    console.print(f"page        {url}", **PLAIN)
    if not wait:
        thread = threading.Thread(target=_serve, args=(server, listening), name="transxnet-app", daemon=True)
        thread.start()
        return ServedPage(url, server, thread)
    console.print("Press Ctrl-C to stop.")
    try:
        _serve(server, listening)
    except KeyboardInterrupt:  # uvicorn raises it again after a graceful shutdown
        console.print("stopped")
    return None


def _prepare(
    run: str | Path,
    file: str | Path | None,
    device: str,
    tta: bool,
    listening: socket.socket,
    examples: int,
    max_size: int,
    console: Console,
) -> Any:
    """Load the model and build the page; returns the uvicorn server."""
    trained = load_model(run, file)
    os.environ.setdefault("GRADIO_TEMP_DIR", _upload_folder().name)
    from transxnet.web.example_images import find_examples
    from transxnet.web.gradio_page import GradioPage
    from transxnet.web.page_model import PageModel

    found, why_none = find_examples(trained, examples, console)
    if why_none:
        console.print(why_none, **PLAIN)
    page = GradioPage(PageModel(trained, device, tta), found, why_none, max_size * 10**6)
    return _server(page.blocks, listening, max_size)


@cache
def _upload_folder() -> tempfile.TemporaryDirectory:
    """Create the upload folder, deleted with this process; Gradio's default is shared by all users of the machine."""
    return tempfile.TemporaryDirectory(prefix="transxnet-app-", ignore_cleanup_errors=True)


def _server(blocks: Any, listening: socket.socket, max_size: int) -> Any:
    """The uvicorn server of the page."""
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.add_middleware(_SecurityHeaders)
    if is_loopback(listening):
        # Prevents DNS rebinding: a website whose name resolves to this machine.
        outer.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", host_of(listening)])
    system, mono = ([gr.themes.Font(f) for f in names] for names in (("system-ui", "sans-serif"), ("monospace",)))
    gr.mount_gradio_app(
        outer,
        blocks,
        "/",
        footer_links=[],
        run_history=False,
        root_path="",
        show_error=False,
        max_file_size=max_size * 10**6,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=system, font_mono=mono),  # Gradio's own fonts would be downloaded
        css=(_TEMPLATES / "app.css").read_text(encoding="utf-8"),
        head=f"<script type=module>\n{(_TEMPLATES / 'app.js').read_text(encoding='utf-8')}</script>",
    )
    blocks.has_launched = True  # mounting does not set it; without it any local file counts as an upload
    return uvicorn.Server(uvicorn.Config(outer, log_level="warning", timeout_graceful_shutdown=1))


def _serve(server: Any, listening: socket.socket) -> None:
    """Serve until the server is asked to exit."""
    log = logging.getLogger("uvicorn.error")

    def running(record: logging.LogRecord) -> bool:
        return not server.should_exit  # pages still open at shutdown are not errors

    log.addFilter(running)
    try:
        with listening:
            server.run(sockets=[listening])
    finally:
        log.removeFilter(running)


class _SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers)
