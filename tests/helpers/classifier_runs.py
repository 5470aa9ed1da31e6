"""Run folders without training: a config, a description and random weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.runs.load import save_model
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import config_from_dict


def write_run(path: Path, model: nn.Module, data: Path, *, task: str = "classify", **description: Any) -> Run:
    """Write a finished run of a model on some data.

    Args:
        path: folder to create.
        model: model whose weights are saved.
        data: data set in the config.
        task: task in the config.
        **description: other parts of the model description: architecture, class_names, model_args, preprocessing.
    """
    run = Run(path)
    path.mkdir(parents=True)
    run.write_config(config_from_dict({"task": task, "data": str(data), "model": description["architecture"]}))
    save_model(run, model.state_dict(), {"task": task, "model_args": {}, **description})
    return run


@torch.no_grad()
def draw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw weights and running statistics, so that every layer affects the output."""
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
    """Preprocessing of a classifier for square images with this side."""
    return Preprocessing(side, 0.9, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).to_dict()
