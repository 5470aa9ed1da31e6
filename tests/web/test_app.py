"""The served page over HTTP: its limits and rejected requests."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import transxnet
from tests.helpers.broken_images import png_header
from tests.helpers.html_page import Page
from tests.helpers.untrained_runs import make_untrained_run
from transxnet.cli import main
from transxnet.reports.html_page import load_template
from transxnet.utils.errors import UserError
from transxnet.web.app import app
from transxnet.web.server_address import listen
from transxnet.web.uploads import read_upload

httpx = pytest.importorskip("httpx")


def test_app_is_the_function_after_its_module_is_imported():
    pytest.importorskip("transxnet.web.gradio_page")
    assert transxnet.app is app
    assert "app" in transxnet.__all__


def test_missing_gradio_is_an_error_with_the_command(photos_run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("transxnet.web.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["app", str(photos_run.path)]) == 2
    assert "pip install 'transxnet[app]'" in capsys.readouterr().err


def test_wrong_arguments_are_errors_and_free_the_port(tmp_path, photos_run, console):
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for run, options in (
        (tmp_path, {}),
        (photos_run.path, {"max_size": 0}),
        (photos_run.path, {"examples": -1}),
        (photos_run.path, {"device": "gpu"}),
    ):
        with pytest.raises(UserError):
            app(run, port=port, console=console, wait=False, **options)
        listen("127.0.0.1", port).close()


def predict_over_http(url: str, path: str | Path, fn: str) -> str:
    """The response to a request for a local file, sent as the browser's script does."""
    config = httpx.get(url + "config").json()
    call = next(d for d in config["dependencies"] if d["targets"] and d["targets"][0][1] == fn)
    data = [{"path": str(path), "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}, 0.5]
    body = {"data": data, "fn_index": call["id"], "session_hash": "abc"}
    httpx.post(url + "gradio_api/queue/join", json=body).raise_for_status()
    with httpx.stream("GET", url + "gradio_api/queue/data", params={"session_hash": "abc"}, timeout=120) as lines:
        for line in lines.iter_lines():
            if line.startswith("data:") and json.loads(line[5:])["msg"] == "process_completed":
                return line
    raise AssertionError("no response")


def upload(url: str, name: str, content: bytes) -> httpx.Response:
    return httpx.post(url + "gradio_api/upload", files={"files": (name, content)})


def test_only_uploads_are_predicted_and_no_other_file(serve, photos_run, photos):
    url = serve(photos_run).url
    own = next((photos / "red").iterdir())
    (path,) = upload(url, "red.png", own.read_bytes()).json()
    response = predict_over_http(url, path, "upload")
    assert 'class=\\"rows\\"' in response
    assert '"success":true' in response.replace(" ", "")
    rejected = predict_over_http(url, own, "upload")
    assert "rows" not in rejected
    assert '"success":false' in rejected.replace(" ", "")
    assert httpx.get(f"{url}gradio_api/file={own}").status_code == 403


def test_uploads_over_the_limits_are_rejected(serve, photos_run):
    url = serve(photos_run, max_size=1).url
    assert upload(url, "large.png", b"\0" * 1_100_000).status_code == 413
    (path,) = upload(url, "huge.png", png_header(9000, 9000)).json()
    response = predict_over_http(url, path, "upload")
    assert "9000x9000 exceeds 50,000,000 pixels" in response
    assert "Traceback" not in response


HOSTILE = '"><img src=x onerror=alert(1)>'
"""A file name that would break out of an HTML attribute and run as a script."""


def test_class_names_are_text_not_markup(serve, photos, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "red").rename(data / HOSTILE)
    served = serve(make_untrained_run(tmp_path / "run", data, img_size=64), examples=0)
    config = httpx.get(served.url + "config").json()
    texts = [part["props"].get("value") for part in config["components"] if part["type"] == "html"]
    (path,) = upload(served.url, "blue.png", next((data / "blue").iterdir()).read_bytes()).json()
    response = json.loads(predict_over_http(served.url, path, "upload")[5:])
    texts += [value for value in response["output"]["data"] if isinstance(value, str)]
    named = 0
    for page in map(Page, filter(None, texts)):
        assert set(page.tags) <= {"header", "h1", "h2", "p", "div", "ul", "li", "span", "i"}
        named += any(HOSTILE in text for text in page.text.values())
    assert named == 2, "the class name is in the header and in the prediction"


def test_file_names_are_text_not_markup(tmp_path):
    pytest.importorskip("gradio")
    (tmp_path / HOSTILE).write_bytes(b"not an image")
    with pytest.raises(UserError) as error:
        read_upload(tmp_path / HOSTILE)
    assert HOSTILE in str(error.value)
    page = Page(load_template("app.html.jinja").module.message(str(error.value), True))
    assert page.tags == ["p"]
    assert str(error.value) in page.text["p"]


def test_page_loads_nothing_from_other_hosts(serve, photos_run):
    url = serve(photos_run).url
    page = httpx.get(url)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert not re.findall(r"url\(['\"]?https?:", httpx.get(url + "theme.css").text)
    for tag in re.findall(r"<(?:script|link)\b[^>]*>", page.text):
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//(?!127\.0\.0\.1)""", tag), tag
    config = httpx.get(url + "config").json()
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert all(call["api_visibility"] == "private" for call in config["dependencies"])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_foreign_host_header_is_rejected(serve, photos_run, host):
    if host == "::1":
        try:
            socket.create_server((host, 0), family=socket.AF_INET6).close()
        except OSError as error:
            pytest.skip(f"this machine has no loopback of version 6: {error}")
    url = serve(photos_run, host=host).url
    port = httpx.URL(url).port
    assert httpx.get(url).status_code == 200
    assert httpx.get(url, headers={"Host": f"localhost:{port}"}).status_code == 200
    for name in ("evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}"):
        assert httpx.get(url, headers={"Host": name}).status_code == 400


def test_uploads_are_deleted_when_the_page_is_closed(photos_run, photos, console):
    pytest.importorskip("gradio")
    served = app(photos_run.path, port=0, wait=False, console=console, examples=0)
    (path,) = upload(served.url, "red.png", next((photos / "red").iterdir()).read_bytes()).json()
    predict_over_http(served.url, path, "upload")
    assert Path(path).is_file()
    served.close()
    assert not Path(path).exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.url)
    assert served.url in console.file.getvalue()
    assert "warning" not in console.file.getvalue()


def test_address_reachable_by_others_prints_a_warning(photos_run, console):
    pytest.importorskip("gradio")
    served = app(photos_run.path, host="0.0.0.0", port=0, wait=False, console=console, examples=0)
    served.close()
    assert "warning: other machines can reach the page on 0.0.0.0" in console.file.getvalue()


@pytest.mark.long
def test_command_serves_until_ctrl_c(photos_run):
    pytest.importorskip("gradio")
    command = [sys.executable, "-m", "transxnet", "app", str(photos_run.path), "--port", "0", "--examples", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    printed = ""
    while "Press Ctrl-C to stop." not in printed:
        printed += process.stdout.readline()
        assert process.poll() is None, process.stderr.read()
    url = re.search(r"http://\S+", printed)[0]
    assert httpx.get(url, timeout=60).status_code == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
