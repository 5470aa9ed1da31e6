"""Faults injected at an exact point of a training, set in the training's own process."""

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
"""Points: before a step; between its backward pass and its update; within or after a validation; between an epoch's row
in metrics.csv and its checkpoints; while a file is written: half-way, before it is put in place, between moving the
old file away and the new one into place, and afterwards; before the results."""


def set_trap(point: str, number: int, what: str, path: str = "") -> None:
    """Inject a fault when execution reaches a point for the ``number``-th time, counted from 0.

    Args:
        point: one of :data:`POINTS`; for file points, every file that the process writes is counted.
        number: how often the point is reached before.
        what: KILL or TERM, a signal to the process itself; or a fault of the disk with ``path``: "full", "small" (no
            file may grow beyond 100 kB), "read-only", "gone".
        path: the run folder.
    """
    count = -1

    def trigger() -> None:
        nonlocal count
        count += 1
        if count == number:
            if what in ("KILL", "TERM"):
                os.kill(os.getpid(), signal.Signals[f"SIG{what}"])
            else:
                DISKS[what](Path(path))

    _PLACES[point](trigger)


def _before(owner: type, name: str, trigger: Callable[[], None]) -> None:
    there = getattr(owner, name)

    def method(self, *args, **kwargs):
        trigger()
        return there(self, *args, **kwargs)

    setattr(owner, name, method)


def _in_step(trigger: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    _before(EpochLog, "on_train_batch_start", trigger)


def _in_update(trigger: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    EpochLog.on_before_optimizer_step = lambda *_: trigger()


def _in_validation(trigger: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    EpochLog.on_validation_batch_start = lambda *_: trigger()


def _after_validation(trigger: Callable[[], None]) -> None:
    from transxnet.training.callbacks import EpochLog

    EpochLog.on_validation_end = lambda *_: trigger()


def _after_epoch(trigger: Callable[[], None]) -> None:
    from transxnet.training.lightning_module import TrainingModule

    _before(TrainingModule, "on_train_epoch_end", trigger)


def _before_results(trigger: Callable[[], None]) -> None:
    from transxnet.training import train

    there = train.save_model

    def save_model(*args):
        trigger()
        there(*args)

    train.save_model = save_model


def _in_writing(point: str) -> Callable[[Callable[[], None]], None]:
    def place(trigger: Callable[[], None]) -> None:
        from transxnet.utils import files

        fsync_file, fsync_folder = files._fsync_file, files._fsync_folder
        replace = Path.replace

        def half(path: Path) -> None:
            if point == "half":
                size, whole = path.stat().st_size, path.read_bytes()
                path.write_bytes(whole[: size // 2])
                trigger()
                path.write_bytes(whole)
            fsync_file(path)
            if point == "flushed":
                trigger()

        def moved(self: Path, target: Path) -> Path:
            if point == "moved" and _is_written(self):
                trigger()
            return replace(self, target)

        def written(folder: Path) -> None:
            fsync_folder(folder)
            if point == "written":
                trigger()

        files._fsync_file, files._fsync_folder, Path.replace = half, written, moved

    return place


def _is_written(path: Path) -> bool:
    return path.name.startswith(".last.ckpt.")


def _fill(run: Path) -> None:
    """Fill the disk, except for the space of a short text."""
    size = os.statvfs(run)
    free = size.f_bavail * size.f_frsize
    with (run.parent / "filler").open("wb") as file:
        file.write(bytes(max(0, free - 16384)))


def _small(run: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def _read_only(run: Path) -> None:
    """Make the folder read-only for this process only."""
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
