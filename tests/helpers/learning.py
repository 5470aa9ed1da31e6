"""Short trainings of detectors."""

import torch
from torch import Tensor, nn


def backward(model: nn.Module, images: list[Tensor], targets: list[dict]) -> dict[str, Tensor]:
    """Compute the losses and run the backward pass; returns the losses."""
    losses = model.train()(images, targets)
    sum(losses.values()).backward()
    return losses


def learn(model: nn.Module, images: list[Tensor], targets: list[dict], steps: int) -> list[dict]:
    """Train for some steps; returns the detections in the training images."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model, images, targets)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model.eval()(images)
