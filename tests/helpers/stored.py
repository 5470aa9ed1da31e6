"""Stored run folders of earlier versions, which later versions must load; running this file makes the current one."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parents[1] / "stored"
MODEL = "transxnet_n@depths=(1,1,1,1),embed_dims=(16,16,32,32),num_heads=(1,1,2,2)"
STOP = 8  # in the second of four epochs


def stored_run(number: int, kind: str, place: Path):
    """Copy a stored "finished" or "interrupted" run of a format, and its images next to it."""
    import yaml

    from transxnet.runs.run_folder import Run

    shutil.copytree(FOLDER / f"format-{number}" / "images", place / "images", dirs_exist_ok=True)
    shutil.copytree(FOLDER / f"format-{number}" / kind, place / kind)
    run = Run(place / kind)
    config = yaml.safe_load(run.config_file.read_text())
    run.config_file.write_text(yaml.safe_dump(config | {"data": str(place / "images")}, sort_keys=False))
    return run


def make(number: int) -> None:
    """Train both runs, and keep only the files needed to use or resume them."""
    from tests.helpers.class_folders import write_photos
    from transxnet.training.callbacks import GracefulStop
    from transxnet.training.train import train
    from transxnet.utils.errors import Interrupted

    root = FOLDER / f"format-{number}"
    shutil.rmtree(root, ignore_errors=True)
    write_photos(root / "images", 10)
    quick = dict(model=MODEL, img_size=32, batch_size=4, epochs=4, workers=0, device="cpu", ema_decay=0.5)
    train(root / "images", out=root / "finished", **quick)

    def ask(self, trainer, module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == STOP:
            self._handle(2, None)

    GracefulStop.on_train_batch_start = ask  # type: ignore[method-assign]
    with suppress(Interrupted):
        train(root / "images", out=root / "interrupted", **quick)
    for kind in ("finished", "interrupted"):
        run = root / kind
        config = run / "config.yaml"
        config.write_text(config.read_text().replace(str(root / "images"), "images"))
        environment = run / "environment.json"
        environment.write_text(environment.read_text().replace(str(root), "."))
        for name in ("tensorboard", "best.ckpt", "previous.ckpt", "report.html", ".lock"):
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
        if kind == "finished":
            (run / "last.ckpt").unlink()
            continue
        checkpoint = torch.load(run / "last.ckpt", weights_only=True)
        torch.save(_without(str(root), checkpoint), run / "last.ckpt")


def _without(folder: str, value: Any) -> Any:
    """Replace the name of the local folder in all strings."""
    if isinstance(value, str):
        return value.replace(folder, ".")
    if isinstance(value, dict):
        return type(value)((_without(folder, k), _without(folder, v)) for k, v in value.items())
    return value


if __name__ == "__main__":
    sys.path.append(str(FOLDER.parents[1]))
    from transxnet.runs.load import FORMAT

    make(FORMAT)
