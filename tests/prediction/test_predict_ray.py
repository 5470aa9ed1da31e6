import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest

from tests.helpers.prediction_data import finished_chunks, write_classifier_run, write_images
from transxnet.prediction import work_folder
from transxnet.prediction.loaded_model import open_model
from transxnet.prediction.parquet_chunks import predict_chunks
from transxnet.prediction.predict import predict
from transxnet.prediction.predict_ray import _Actor, _max_actors
from transxnet.prediction.work_folder import PredictionSettings, lock_work_folder, open_work_folder
from transxnet.utils.errors import UserError
from transxnet.version import __version__


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A run, and images in chunks of four; paths are relative to the working directory."""
    monkeypatch.setattr(work_folder, "CHUNK_SIZE", 4)
    monkeypatch.chdir(tmp_path)
    write_classifier_run(tmp_path / "run", "test_resnet")
    write_images(tmp_path / "images", 60)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")


def actors() -> list[psutil.Process]:
    """Child processes that Ray Data has started for prediction."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::" in " ".join(process.cmdline()) and "_Actor" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


def listening() -> set[str]:
    """Addresses on which child processes listen."""
    addresses = set()
    for process in psutil.Process().children(recursive=True):
        try:
            connections = process.net_connections("inet")
        except psutil.Error:
            continue
        addresses |= {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    return addresses


def test_actor_classifies_only_the_pending_chunks(small, tmp_path, quiet):
    predictor = open_model("run")
    inputs = [str(tmp_path / "images")]
    job = PredictionSettings(predictor.name, predictor.fingerprint, inputs, "", 3, 2, None, None, __version__)
    with lock_work_folder(tmp_path / "work"):
        work = open_work_folder(tmp_path / "work", job, False, lambda found: None)
    assert [rows for _, rows in work.chunks] == [4] * 15 + [1]
    assert list(predict_chunks(predictor, work, [1], 0)) == [2, 2]
    before = work.chunk_file(1).stat()
    actor = _Actor("run", None, "auto", work, 0)
    assert actor({"chunk": np.array([15, 1])}) == {"images": [1, 4]}
    assert work.pending() == [0, *range(2, 15)]
    assert work.chunk_file(1).stat() == before
    write_classifier_run(tmp_path / "other", "test_resnet", seed=1)
    with pytest.raises(
        UserError, match=r"other on .* differs in weights, class names or preprocessing from the machine where"
    ):
        _Actor("other", None, "auto", work, 0)


@pytest.mark.long
def test_killed_actor_does_not_change_the_results(small, tmp_path, quiet):
    options = dict(batch_size=2, workers=0, embed=True, console=quiet)
    alone = predict("run", "images", out="alone.parquet", **options)
    seen: dict[str, set] = {"killed": set(), "pids": set(), "addresses": set()}
    over = threading.Event()

    def kill_one() -> None:
        while not over.is_set():
            there, done = actors(), finished_chunks(tmp_path / "ray.parquet")
            seen["pids"] |= {process.pid for process in there}
            if there and done and not seen["killed"] and len(done) < 14:
                seen["addresses"] |= listening()
                os.kill(there[0].pid, signal.SIGKILL)
                seen["killed"] = {there[0].pid, len(done)}
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        predict("run", "images", out="ray.parquet", ray=True, **options)
    finally:
        over.set()
        killer.join()
    assert seen["killed"]
    assert len(seen["pids"]) > 1  # another actor replaced it
    assert seen["addresses"] <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert (tmp_path / "ray.parquet").read_bytes() == alone.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.parquet", "images", "ray.parquet", "run"]


def test_number_of_actors_follows_the_resources_of_the_machines(monkeypatch):
    ray = pytest.importorskip("ray")
    machines = [({"CPU": 16.0, "GPU": 2.0}, True), ({"CPU": 7.0, "memory": 1e9}, True), ({"CPU": 99.0}, False)]
    monkeypatch.setattr(ray, "nodes", lambda: [{"Resources": has, "Alive": alive} for has, alive in machines])
    assert _max_actors(3, 0) == 5 + 2
    assert _max_actors(3, 1) == 2
    assert _max_actors(9, 1) == 1
    with pytest.raises(UserError, match=r"needs 17 CPUs \(16 of them to decode\), but no .* 16. Use a smaller --work"):
        _max_actors(17, 0)
