"""Validate a run's model in several processes: python validating.py RUN DEVICES OUT."""

import io
import json
import sys
from pathlib import Path

from lightning.pytorch import Trainer
from rich.console import Console
from safetensors.torch import load_file

from transxnet.runs.run_folder import Run
from transxnet.training.make_plan import make_plan


def validate(run: Run, devices: int) -> dict[str, float] | None:
    """The metrics in the first process; None in the others."""
    config = run.read_config().replace(ema_decay=0.0, batch_size=2)
    plan = make_plan(config, Console(file=io.StringIO()), run, resumed=True)
    plan.model.load_state_dict(load_file(run.weights_file))
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (figures,) = trainer.validate(plan.training_module(), plan.data_module(), verbose=False)
    return dict(figures) if trainer.is_global_zero else None


if __name__ == "__main__":
    answer = validate(Run.open(sys.argv[1]), int(sys.argv[2]))
    if answer is not None:
        Path(sys.argv[3]).write_text(json.dumps(answer))
