"""What goes wrong in a training, at an exact point of it; laid in the training's own process."""

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

POINTS = (
    "step", "update", "validation", "validated", "epoch", "half", "flushed", "moved", "written", "results",
)  # fmt: skip
"""Where: before a step, between its backward pass and its update, within or after a validation, between an epoch's
line in metrics.csv and its checkpoints; of a file's writing, half-way, before it takes its place, between the old
one's leaving and the new one's coming, and after; before the results."""


def lay(point: str, number: int, what: str, path: str = "") -> None:
    """Let something happen when a point is reached for the ``number``-th time, from 0.

    Args:
        point: one of :data:`POINTS`; of files, every one that the process writes is counted.
        number: how often it is passed before.
        what: KILL or TERM, a signal to the process itself; or what becomes of the disk that ``path`` lies on: "full",
            "small" (no file may grow beyond 100 kB), "read-only", "gone".
        path: the run folder.
    """
    count = -1

    def pass_by() -> None:
        nonlocal count
        count += 1
        if count == number:
            if what in ("KILL", "TERM"):
                os.kill(os.getpid(), signal.Signals[f"SIG{what}"])
            else:
                DISKS[what](Path(path))

    _PLACES[point](pass_by)


def _before(owner: type, name: str, pass_by: Callable[[], None]) -> None:
    there = getattr(owner, name)

    def method(self, *args, **kwargs):
        pass_by()
        return there(self, *args, **kwargs)

    setattr(owner, name, method)


def _in_step(pass_by: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    _before(EpochLog, "on_train_batch_start", pass_by)


def _in_update(pass_by: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    EpochLog.on_before_optimizer_step = lambda *_: pass_by()


def _in_validation(pass_by: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    EpochLog.on_validation_batch_start = lambda *_: pass_by()


def _after_validation(pass_by: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    EpochLog.on_validation_end = lambda *_: pass_by()


def _after_epoch(pass_by: Callable[[], None]) -> None:
    from transxnet.training.lightning_module import Training

    _before(Training, "on_train_epoch_end", pass_by)


def _before_results(pass_by: Callable[[], None]) -> None:
    from transxnet.training import train

    there = train.save_model

    def save_model(*args):
        pass_by()
        there(*args)

    train.save_model = save_model


def _in_writing(point: str) -> Callable[[Callable[[], None]], None]:
    def place(pass_by: Callable[[], None]) -> None:
        from transxnet.utils import files

        fsync_file, fsync_folder = files._fsync_file, files._fsync_folder
        replace = Path.replace

        def half(path: Path) -> None:
            if point == "half":
                size, whole = path.stat().st_size, path.read_bytes()
                path.write_bytes(whole[: size // 2])
                pass_by()
                path.write_bytes(whole)
            fsync_file(path)
            if point == "flushed":
                pass_by()

        def moved(self: Path, target: Path) -> Path:
            if point == "moved" and _is_written(self):
                pass_by()
            return replace(self, target)

        def written(folder: Path) -> None:
            fsync_folder(folder)
            if point == "written":
                pass_by()

        files._fsync_file, files._fsync_folder, Path.replace = half, written, moved

    return place


def _is_written(path: Path) -> bool:
    return path.name.startswith(".last.ckpt.")


def _fill(run: Path) -> None:
    """Fill the disk but for what a short text needs."""
    size = os.statvfs(run)
    free = size.f_bavail * size.f_frsize
    with (run.parent / "filler").open("wb") as file:
        file.write(bytes(max(0, free - 16384)))


def _small(run: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def _read_only(run: Path) -> None:
    """Make the folder read-only, for this process alone."""
    if ctypes.CDLL(None).unshare(0x00020000):  # CLONE_NEWNS
        raise OSError("no mount namespace")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", run, run], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", run], check=True)


def _gone(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))


DISKS: dict[str, Callable[[Path], None]] = {"full": _fill, "small": _small, "read-only": _read_only, "gone": _gone}

_PLACES = {
    "step": _in_step,
    "update": _in_update,
    "validation": _in_validation,
    "validated": _after_validation,
    "epoch": _after_epoch,
    "results": _before_results,
    **{point: _in_writing(point) for point in ("half", "flushed", "moved", "written")},
}
