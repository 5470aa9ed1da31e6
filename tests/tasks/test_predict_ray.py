"""Predicting on a cluster of Ray's on this machine: slow to start, so one cluster for all of it."""

import os
import signal
import threading
import time

import psutil
import pytest
from tables import pieces_of, write_pictures, write_run

from transxnet.errors import UserError
from transxnet.tasks import pieces
from transxnet.tasks.predict import predict

pytestmark = pytest.mark.long


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A run, and pictures in pieces of four; paths from the folder that the tests are in."""
    monkeypatch.setattr(pieces, "PIECE_IMAGES", 4)
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", "test_resnet")
    write_pictures(tmp_path / "images", 60)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")


def actors() -> list[psutil.Process]:
    """Processes below this one that Ray Data has started to predict."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::" in " ".join(process.cmdline()) and "_Actor" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


def listening() -> set[str]:
    """Addresses that the processes below this one listen at."""
    addresses = set()
    for process in psutil.Process().children(recursive=True):
        try:
            connections = process.net_connections("inet")
        except psutil.Error:
            continue
        addresses |= {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    return addresses


def test_results_are_those_of_one_process_though_a_worker_is_killed(small, tmp_path, quiet):
    options = dict(batch_size=2, workers=0, embed=True, console=quiet)
    alone = predict("run", "images", out="alone.parquet", **options)
    seen: dict[str, set] = {"killed": set(), "pids": set(), "addresses": set()}
    over = threading.Event()

    def kill_one() -> None:
        while not over.is_set():
            there, done = actors(), pieces_of(tmp_path / "ray.parquet")
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
    assert len(seen["pids"]) > 1  # another took its place
    assert seen["addresses"] <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert (tmp_path / "ray.parquet").read_bytes() == alone.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.parquet", "images", "ray.parquet", "run"]


def test_an_actor_that_no_machine_has_room_for_is_said(small, quiet):
    with pytest.raises(UserError, match=r"an actor asks for 10001 CPUs .* Give a smaller --workers"):
        predict("run", "images", out="ray.parquet", ray=True, workers=10_000, batch_size=2, console=quiet)
