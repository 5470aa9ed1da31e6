"""Run folders without a training: a config, a description and drawn weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from transxnet.data.transforms import Preprocessing
from transxnet.runs.load import save_model
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import config_from_dict


def write_run(path: Path, model: nn.Module, data: Path, *, task: str = "classify", **description: Any) -> Run:
    """A finished run of this model on this data.

    Args:
        path: the folder to make.
        model: whose weights it holds.
        data: of its config.
        task: likewise.
        **description: what rebuilds the model beside the task: architecture, class_names, model_args, preprocessing.
    """
    run = Run(path)
    path.mkdir(parents=True)
    run.write_config(config_from_dict({"task": task, "data": str(data), "model": description["architecture"]}))
    save_model(run, model.state_dict(), {"task": task, "model_args": {}, **description})
    return run


@torch.no_grad()
def draw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and running statistics with which every layer shows in the output."""
    dice = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.copy_(1 + 0.2 * torch.rand(tensor.shape, generator=dice))
        elif tensor.ndim == 1:
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=dice))
    return model.eval()


def preprocessing(side: int) -> dict:
    """Of a classifier for images of this side."""
    return Preprocessing(side, 0.9, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).to_dict()
