"""The FastAPI example on loopback: one and many images, unreadable files, and shutdown."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import transxnet

pytestmark = pytest.mark.long
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

SERVE = Path(__file__).parents[2] / "examples" / "serve"
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def model(photos_run, quiet, tmp_path_factory) -> Path:
    return transxnet.export(photos_run.path, out=tmp_path_factory.mktemp("serve") / "net.onnx", console=quiet)


@pytest.fixture(scope="module")
def server(model) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of the running server, and its process."""
    command = [sys.executable, "-m", "uvicorn", "fastapi_server:app", "--port", "0"]
    environment = {**os.environ, "MODEL": str(model), "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(command, cwd=SERVE, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            yield next(found[0] for line in lines if (found := re.findall(r"http://127\.0\.0\.1:\d+", line))), process
        finally:
            process.kill()


def send(address: str, *contents: bytes) -> "httpx.Response":
    files = [("images", ("a.png", content)) for content in contents]
    return httpx.post(f"{address}/predict", files=files, timeout=60)


@pytest.mark.parametrize("count", [1, 9])
def test_images_are_classified_as_by_predict(server, model, photos, count):
    paths = sorted(photos.glob("*/*.png"))[:count]
    answer = send(server[0], *(path.read_bytes() for path in paths))
    assert answer.status_code == 200
    expected = transxnet.load(model).predict(paths)
    assert [each["class"] for each in answer.json()] == [result.label for result in expected]
    assert [each["probability"] for each in answer.json()] == pytest.approx([r.score for r in expected], abs=1e-5)


@pytest.mark.parametrize(
    ("contents", "status", "message"),
    [
        ([b"no image"], 422, "an image cannot be read"),
        ([], 422, "Field required"),
        ([b"x"] * 33, 413, "33 images were sent. Accepted: at most 32"),
    ],
    ids=["unreadable", "none", "too many"],
)
def test_bad_requests_are_refused(server, contents, status, message):
    answer = send(server[0], *contents)
    assert answer.status_code == status
    assert message in answer.text


def test_server_stops_at_a_termination_signal(server):
    _, process = server
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert "Application shutdown complete" in log
    assert process.returncode in (0, -signal.SIGTERM)


def test_triton_configuration_names_the_inputs_and_outputs_of_a_file():
    text = (SERVE / "triton" / "elpv" / "config.pbtxt").read_text()
    assert re.findall(r'name: "(\w+)"', text) == ["elpv", "images", "logits"]
