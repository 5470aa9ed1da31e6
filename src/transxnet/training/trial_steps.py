"""Run a few training steps to measure them, without changing the model."""

import copy
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from timm.optim import create_optimizer_v2

from transxnet.training.plan import Plan


def run_steps(
    plan: Plan, size: int, device: torch.device, count: int, compiled: bool = False
) -> tuple[Any, list[tuple[float, float]]]:
    """Run training steps like the trainer's on a copy of the model; return the batch, and loss and seconds of each."""
    config = plan.config.replace(batch_size=size, workers=0, ema_decay=0.5, compile=compiled)
    trial = replace(plan, config=config, model=copy.deepcopy(plan.model))
    batch: Any = move_data_to_device(next(iter(trial.data_module().train_dataloader())), device)
    module = trial.training_module().to(device).train()
    optimizer = create_optimizer_v2(module.trained, config.opt, lr=1e-6, weight_decay=config.weight_decay)
    narrow = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(config.precision))
    steps = []
    for _ in range(count):
        start = time.perf_counter()
        with nullcontext() if narrow is None else torch.autocast(device.type, narrow):
            loss = torch.stack(list(module.losses(batch).values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps.append((loss.item(), time.perf_counter() - start))
    return batch, steps
