import base64
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from huggingface_hub import HfApi

from tests.helpers.class_folders import QUICK, write_photos
from transxnet.deploy import push as module
from transxnet.deploy.push import push
from transxnet.training.train import train
from transxnet.utils.errors import UserError


class Hub(BaseHTTPRequestHandler):
    """The calls of the Hub that a commit of small files needs; files become ``server.files``."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer secret":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            return self.answer(200, {"url": f"{self.server.url}/me/cells"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.path == "/api/models/me/cells/preupload/main":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        assert self.path == "/api/models/me/cells/commit/main", self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer(200, {"commitUrl": f"{self.server.url}/me/cells/commit/1", "commitOid": "1"})

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory, quiet):
    folder = tmp_path_factory.mktemp("push")
    return train(write_photos(folder / "photos", 15), out=folder / "run", console=quiet, **{**QUICK, "epochs": 1})


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.files = f"http://127.0.0.1:{server.server_port}", {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(module, "HfApi", partial(HfApi, endpoint=server.url, token="secret"))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_weights_card_and_results_are_uploaded(run, hub, quiet):
    url = push(run.path, "me/cells", console=quiet)
    assert url == f"{hub.url}/me/cells/commit/1"
    assert hub.created["visibility"] == "private"
    assert set(hub.files) == {
        "README.md", "config.json", "config.yaml", "model.json", "model.safetensors", "results.json", "metrics.csv",
    }  # fmt: skip
    assert hub.files["model.safetensors"] == run.weights_file.read_bytes()
    assert b'timm.create_model("hf-hub:me/cells", pretrained=True)' in hub.files["README.md"]


def test_folder_of_the_data_stays_private(run, hub, quiet):
    push(run.path, "me/cells", console=quiet)
    folder = str(run.read_config().data).encode()
    assert not any(folder in content for content in hub.files.values())
    assert yaml.safe_load(hub.files["config.yaml"])["data"] == "photos"


def test_public_repository_is_created_on_request(run, hub, quiet):
    push(run.path, "me/cells", public=True, console=quiet)
    assert hub.created["visibility"] == "public"


def test_refused_upload_names_the_login(run, hub, quiet, monkeypatch):
    monkeypatch.setattr(module, "HfApi", partial(HfApi, endpoint=hub.url, token="wrong"))
    with pytest.raises(UserError, match="hf auth whoami"):
        push(run.path, "me/cells", console=quiet)


def test_invalid_repository_name_is_rejected(run, hub, quiet):
    with pytest.raises(UserError, match="OWNER/NAME"):
        push(run.path, "me/my/cells", console=quiet)


def test_unreachable_hub_is_reported(run, quiet, monkeypatch):
    monkeypatch.setattr(module, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9", token="secret"))
    with pytest.raises(UserError, match="cannot upload to me/cells"):
        push(run.path, "me/cells", console=quiet)
