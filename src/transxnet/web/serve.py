"""Serving the page: to whom, with which bounds, and until when."""

import logging
import os
import socket
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.runs.load import load_model
from transxnet.utils.errors import UserError, check_at_least
from transxnet.web.address import host_of, is_loopback, listen, url_of

_TEMPLATES = Path(__file__).parents[1] / "templates"

# Whatever Gradio or an extension of it might want, the reader's browser fetches nothing from elsewhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


@dataclass
class Served:
    """A page that is being served.

    Attributes:
        url: for this machine's browser.
    """

    url: str
    _server: Any
    _thread: threading.Thread

    def close(self) -> None:
        """Stop serving, and delete what was sent."""
        self._server.should_exit = True
        self._thread.join()


def app(
    run: str | Path,
    *,
    file: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    examples: int = 8,
    max_size: int = 20,
    wait: bool = True,
    console: Console | None = None,
) -> Served | None:
    """Serve a page on which a trained model can be tried with any picture: answers, and what speaks for them.

    It is for whoever can reach the address, without a password. Everything on it comes from this machine, nothing is
    counted or sent elsewhere, and what was sent is deleted after about an hour, or when the page ends.

    Args:
        run: a run folder, or the name of a model with published weights.
        file: published weights on disk, for a model by name.
        host: the address to listen on: by default this machine alone; 0.0.0.0 is for all that reach this machine.
        port: by default the first free one from 7860.
        examples: held-out images of the run to show, at most; 0 for none, which spares opening its data.
        max_size: of a file that is sent, in MB.
        wait: until Ctrl-C; else serve beside what follows.
        console: where to report; by default standard output.

    Returns:
        What is served, where ``wait`` is not set.

    Raises:
        UserError: Gradio is not installed, the model can't be opened, or the address is not to be had.
    """
    check_installed()
    console = console or Console()
    check_at_least(0, examples=examples)
    check_at_least(1, max_size=max_size)
    listening = listen(host, port)
    try:
        server = _prepare(run, file, listening, examples, max_size, console)
    except BaseException:
        listening.close()
        raise
    if not is_loopback(listening):
        console.print(
            f"warning: {host} is open to every machine that reaches this one, and the page has no password. "
            "Leave out --host to keep it to this machine.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    url = url_of(listening)
    console.print(f"page        {url}", highlight=False, markup=False, soft_wrap=True)
    if not wait:
        thread = threading.Thread(target=_serve, args=(server, listening), name="transxnet-app", daemon=True)
        thread.start()
        return Served(url, server, thread)
    console.print("Ctrl-C stops it.")
    try:
        _serve(server, listening)
    except KeyboardInterrupt:  # uvicorn passes it on after it has stopped in order
        console.print("stopped")
    return None


def check_installed() -> None:
    """Raise UserError, naming the extra, unless Gradio is installed."""
    if find_spec("gradio") is None:
        raise UserError("the page needs the package gradio. Install it by: pip install 'transxnet[app]'")


def _prepare(
    run: str | Path,
    file: str | Path | None,
    listening: socket.socket,
    examples: int,
    max_size: int,
    console: Console,
) -> Any:
    """Everything but the serving itself; uvicorn's server."""
    trained = load_model(run, file)
    os.environ.setdefault("GRADIO_TEMP_DIR", _own_folder().name)
    from transxnet.web.answers import Answerer
    from transxnet.web.app_page import Page
    from transxnet.web.examples import find_examples

    found, why_none = find_examples(trained, examples, console)
    if why_none:
        console.print(why_none, highlight=False, markup=False, soft_wrap=True)
    page = Page(Answerer(trained), found, why_none, max_size * 10**6)
    return _server(page.blocks, listening, max_size)


@cache
def _own_folder() -> tempfile.TemporaryDirectory:
    """Where what is sent lies as long as this process lives. Gradio's own would be for all users of the machine."""
    return tempfile.TemporaryDirectory(prefix="transxnet-app-", ignore_cleanup_errors=True)


def _server(blocks: Any, listening: socket.socket, max_size: int) -> Any:
    """The page as uvicorn serves it."""
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.add_middleware(_Headers)
    if is_loopback(listening):
        # A website whose name is made to lead to this machine would else be answered as if it were the page.
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
        theme=gr.themes.Default(font=system, font_mono=mono),  # the reader's own fonts: Gradio's would be sent
        css=(_TEMPLATES / "app.css").read_text(encoding="utf-8"),
        head=f"<script type=module>\n{(_TEMPLATES / 'app.js').read_text(encoding='utf-8')}</script>",
    )
    blocks.has_launched = True  # mounting forgets it, and without it Gradio takes any file of this machine for one sent
    return uvicorn.Server(uvicorn.Config(outer, log_level="warning", timeout_graceful_shutdown=1))


def _serve(server: Any, listening: socket.socket) -> None:
    """Serve until the server is told to exit."""
    log = logging.getLogger("uvicorn.error")

    def running(record: logging.LogRecord) -> bool:
        return not server.should_exit  # pages that are still open then are no errors

    log.addFilter(running)
    try:
        with listening:
            server.run(sockets=[listening])
    finally:
        log.removeFilter(running)


class _Headers:
    """Adds headers to every answer."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers)
