"""Run folders with random weights, for tests that do not need a trained model."""

import io
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from transxnet.data.split import write_split
from transxnet.heads import RetinaNet
from transxnet.runs.load import save_model
from transxnet.runs.recipes import make_config
from transxnet.runs.run_folder import Run
from transxnet.training.make_plan import make_plan

SMALL = "transxnet_n@depths=(1,1,1,1),layer_scale_init_value=1.0"


def make_untrained_run(path: Path, data: Path, **options) -> Run:
    """Make a run as it is before the first training step, with its model saved."""
    quick = dict(model=SMALL, batch_size=2, workers=0, device="cpu")
    torch.manual_seed(0)
    plan = make_plan(make_config(data, **quick | options), Console(file=io.StringIO()))
    if isinstance(plan.model, RetinaNet):
        _raise_scores(plan.model)
    with Run.create(path, overwrite=False) as run:
        run.write_config(plan.config)
        if plan.source.split_made:
            write_split(run.split_file, {"train": plan.source.train.own_names, "val": plan.source.val.own_names})
        save_model(run, plan.model.state_dict(), plan.description())
    return run


def _raise_scores(detector: RetinaNet) -> None:
    """Let the detector return objects with a range of scores; initially all scores are low."""
    last = detector.get_submodule(RetinaNet.class_layers[0])
    nn.init.normal_(last.weight, std=0.003)
    nn.init.zeros_(last.bias)
