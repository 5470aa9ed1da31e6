"""Serving the page: on which address, with which bounds, and until when."""

import ipaddress
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.errors import UserError, check_at_least
from transxnet.tasks.trained import load_trained

PORTS = range(7860, 7960)
"""Where a free port is looked for; the first is Gradio's own."""

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
    counted or sent elsewhere, and what was sent is deleted within two hours or when the page ends.

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
    from transxnet.web.answers import Answerer
    from transxnet.web.examples import find_examples
    from transxnet.web.page import Page

    console = console or Console()
    check_at_least(0, examples=examples)
    check_at_least(1, max_size=max_size)
    listening = listen(host, port)
    try:
        trained = load_trained(run, file)
        found, why_none = find_examples(trained, examples, console)
        scratch = tempfile.TemporaryDirectory(prefix="transxnet-app-")
        with _gradio_keeps_files_in(scratch.name):
            page = Page(Answerer(trained), found, why_none)
            server = _server(page.blocks, listening, max_size)
    except BaseException:
        listening.close()
        raise
    url = url_of(listening)
    if why_none:
        console.print(why_none, highlight=False, markup=False, soft_wrap=True)
    if not is_loopback(listening):
        console.print(
            f"[bold yellow]warning:[/bold yellow] {host} is open to every machine that reaches this one, and the page "
            "has no password. Leave out --host to keep it to this machine.",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"page        {url}", highlight=False, markup=False, soft_wrap=True)

    def serve() -> None:
        with scratch, listening:
            server.run(sockets=[listening])

    if not wait:
        thread = threading.Thread(target=serve, name="transxnet-app", daemon=True)
        thread.start()
        return Served(url, server, thread)
    console.print("Ctrl-C stops it.")
    try:
        serve()
    except KeyboardInterrupt:  # uvicorn passes it on after it has stopped in order
        console.print("stopped")
    return None


def check_installed() -> None:
    """Raise UserError, naming the extra, unless Gradio is installed."""
    if find_spec("gradio") is None:
        raise UserError("the page needs the package gradio. Install it by: pip install 'transxnet[app]'")


def listen(host: str, port: int | None = None) -> socket.socket:
    """A socket that listens on an address.

    Args:
        host: name or number, of version 4 or 6.
        port: by default the first free one of ``PORTS``; 0 for any.

    Raises:
        UserError: the host is not this machine's, or the port is taken or reserved.
    """
    if port is not None and not 0 <= port <= 65535:
        raise UserError(f"port must be a whole number from 0 to 65535, got {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host!r} is no address of this machine: {error}. Accepted: {_HOSTS}.") from error
    for candidate in PORTS if port is None else (port,):
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address[0], candidate, *address[2:]))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            if isinstance(error, PermissionError):
                raise UserError(f"port {candidate} is reserved for the system. Give another --port.") from error
            if error.errno == 99:
                raise UserError(f"{host!r} is no address of this machine. Accepted: {_HOSTS}.") from error
    wanted = f"port {port} is" if port is not None else f"ports {PORTS[0]} to {PORTS[-1]} are all"
    raise UserError(f"{wanted} taken on {host}. Give another --port, or --port 0 for any that is free.")


_HOSTS = "127.0.0.1 for this machine alone, 0.0.0.0 for all that reach it, or one of its own addresses"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def url_of(listening: socket.socket) -> str:
    """What to type into this machine's browser to reach a socket."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _server(blocks: Any, listening: socket.socket, max_size: int) -> Any:
    """The page as uvicorn serves it."""
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    style = (Path(__file__).parents[1] / "templates" / "app.css").read_text(encoding="utf-8")
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.add_middleware(_Headers)
    if is_loopback(listening) and listening.family == socket.AF_INET:
        # A website whose name is made to lead to this machine would else be answered as if it were the page.
        outer.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", listening.getsockname()[0]])
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
        theme=gr.themes.Default(font=_fonts("system-ui", "sans-serif"), font_mono=_fonts("ui-monospace", "monospace")),
        css=style,
    )
    blocks.has_launched = True  # mounting forgets it, and without it Gradio takes any file of this machine for one sent
    return uvicorn.Server(uvicorn.Config(outer, log_level="warning", timeout_graceful_shutdown=1))


def _fonts(*names: str) -> list[Any]:
    """Fonts of the reader's own system, which Gradio then does not send."""
    import gradio as gr

    return [gr.themes.Font(name) for name in names]


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


@contextmanager
def _gradio_keeps_files_in(folder: str) -> Iterator[None]:
    """Give what is built inside a folder of its own for pictures, in place of one that all of Gradio's pages share."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
