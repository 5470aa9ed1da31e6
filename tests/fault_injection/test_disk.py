"""A disk that fills up, becomes read-only or vanishes during training, and checkpoints damaged on disk."""

import os
import subprocess

import pytest

from tests.fault_injection.runs import KINDS, differences, finish
from transxnet.runs.run_folder import Run
from transxnet.training.checkpoint_files import read_verified

pytestmark = pytest.mark.long

SAID = {
    "full": "No space left on device. Free some disk space.",
    "small": "File too large. Free some disk space.",
    "read-only": "Read-only file system. Make the folder writable.",
    "gone": "No such file or directory. Its folder no longer exists: restore it.",
}
KIND = "classify"


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 MB."""
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", tmp_path]).returncode:
        pytest.skip("only root can make a small disk")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fails(server, of, out, what, point, number):
    """Train until the disk fails at a point, check the error message and return it."""
    trap = {"point": point, "number": number, "what": what, "path": str(out)}
    ended = server.train(of.data, out, KINDS[KIND], trap=trap)
    assert ended.status == 2, ended.output[-3000:]
    assert "Traceback" not in ended.output
    error = ended.output[ended.output.index("error: ") :]
    assert error.startswith(f"error: cannot write {out}/"), error
    assert SAID[what] in error
    assert error.endswith(f"Resume with: transxnet train --resume {out}\n")
    return error


@pytest.mark.parametrize("what", ["full", "small", "read-only"])
@pytest.mark.parametrize("number", [1, 0])
def test_disk_failure_leaves_the_last_good_checkpoint(server, whole, request, tried, what, number):
    if what == "read-only" and os.geteuid():
        pytest.skip("only root can make a disk read-only")
    folder = request.getfixturevalue("disk" if what == "full" else "tmp_path")
    out, of = folder / "run", whole(KIND)
    error = fails(server, of, out, what, "epoch", number)
    run = Run(out)
    assert not [path for path in out.iterdir() if path.name.startswith(".last") or path.name.startswith(".best")]
    if number:
        assert f"The last valid checkpoint is {run.last_checkpoint}." in error
        assert (
            read_verified(run.last_checkpoint)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == number
        )
    else:
        assert "No checkpoint was saved." in error
        assert not run.last_checkpoint.exists()
    (folder / "filler").unlink(missing_ok=True)
    assert finish(server, of, out).status == 0
    wrong = differences(run, of.run)
    tried(KIND, f"disk {what} at an epoch's end", "an error; then the same, bitwise" if not wrong else "NOT THE SAME")
    assert wrong == []


@pytest.mark.parametrize("point", ["epoch", "results"])
def test_vanished_folder_is_reported_and_not_recreated(server, whole, out, tried, point):
    of = whole(KIND)
    fails(server, of, out, "gone", point, 1 if point == "epoch" else 0)
    assert not out.exists()
    out.with_name("elsewhere").rename(out)
    assert finish(server, of, out).status == 0
    wrong = differences(Run(out), of.run)
    tried(KIND, f"the folder vanishes: {point}", "an error; then the same, bitwise" if not wrong else "NOT THE SAME")
    assert wrong == []


DAMAGES = {
    "cut short": lambda whole: whole[: len(whole) // 2],
    "a bit turned": lambda whole: whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1])
    + whole[len(whole) // 2 + 1 :],
    "a block of zeros": lambda whole: whole[:8192] + bytes(4096) + whole[12288:],
    "empty": lambda whole: b"",
    "no end": lambda whole: whole[:-1],
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_last_checkpoint_falls_back_to_the_previous(server, whole, out, tried, damage):
    of, run = whole(KIND), Run(out)
    step = {"point": "step", "what": "KILL"}
    assert server.train(of.data, out, KINDS[KIND], trap=step | {"number": 9}).status == -9  # in the third epoch
    assert len(run.read_metrics()) == 2
    run.last_checkpoint.write_bytes(DAMAGES[damage](run.last_checkpoint.read_bytes()))
    ended = server.resume(out, trap=step | {"number": 0})
    warning = ended.output[ended.output.index("warning: ") :].splitlines()[0]
    assert f"{run.last_checkpoint} is" in warning
    assert "Resuming from the previous checkpoint, after epoch 1; later epochs are trained again." in warning
    assert ended.status == -9
    assert [row["epoch"] for row in run.read_metrics()] == [1]
    assert read_verified(run.previous_checkpoint)  # still the good one, until there is a new one
    ended = server.resume(out, trap={"point": "moved", "number": 0, "what": "KILL"})
    assert ended.status == -9
    assert read_verified(run.previous_checkpoint)  # not replaced by the damaged one
    assert finish(server, of, out).status == 0
    wrong = differences(run, of.run)
    tried(KIND, f"last.ckpt: {damage}", "a warning; then the same, bitwise" if not wrong else "NOT THE SAME")
    assert wrong == []
