"""Average the weights of several epochs."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, update_bn

from transxnet.data.loading.samplers import seed_step
from transxnet.runs.run_folder import Run, is_first_process
from transxnet.training.callbacks import RunCheckpoint
from transxnet.training.checkpoint_files import read_verified
from transxnet.training.init_weights import model_weights
from transxnet.training.lightning_module import TrainingModule
from transxnet.training.plan import Plan
from transxnet.utils.progress import PLAIN, progress_bar


class EpochWeights(RunCheckpoint):
    """Keep the weights of the last or the best N epochs in the run folder.

    Args:
        run: the run.
        which: "last" or "best".
        count: N.
        monitor: validation metric of the best epochs; higher is better.
        console: console for warnings.
    """

    def __init__(self, run: Run, which: str, count: int, monitor: str, console: Console):
        super().__init__(
            run.averaged_folder,
            "epoch" if which == "last" else monitor,
            ["epoch-*.ckpt"],
            save_top_k=count,
            save_weights_only=True,
        )
        self._which, self._console = which, console

    @property
    def files(self) -> dict[int, Path]:
        """The files by epoch, without epochs whose metric is not defined."""
        paths = [Path(path) for path, score in self.best_k_models.items() if math.isfinite(score)]
        return {int(path.stem.removeprefix("epoch-")): path for path in sorted(paths)}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch's weights if it is one of the N, and remove those that no longer are."""
        assert isinstance(pl_module, TrainingModule)
        self.filename = f"epoch-{trainer.current_epoch + 1:06d}"
        if self._which == "last" or pl_module.validated():
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the list of files, and remove those of epochs that will be trained again."""
        super().load_state_dict(state_dict)
        missing = sorted(path for path in self.best_k_models if not Path(path).is_file())
        for path in missing:
            del self.best_k_models[path]
        if not is_first_process():
            return
        if missing:
            text = f"warning: {missing[0]} is missing. The weights of the other epochs will be averaged."
            self._console.print(text, style="yellow", **PLAIN)
        for file in Path(str(self.dirpath)).glob("*"):
            if str(file) not in self.best_k_models:
                file.unlink()


@torch.no_grad()
def average_weights(
    files: Mapping[int, Path], module: TrainingModule, plan: Plan, device: torch.device, console: Console
) -> dict[str, Tensor]:
    """Compute the mean of the weights of checkpoints, with BatchNorm statistics of the averaged network.

    The mean of running statistics would be that of other networks. They are computed anew from all training images,
    augmented as in training, as the mean over the batches. Frozen BatchNorms keep theirs.

    Args:
        files: checkpoints of the module by epoch; their EMA weights are averaged if they have them.
        module: trained module; its network is overwritten.
        plan: plan of the run.
        device: device to compute the statistics on.
        console: console for progress.

    Raises:
        UserError: a checkpoint is missing or damaged.

    Source:
        Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.
    """
    mean = AveragedModel(module.model)
    for file in files.values():
        module.model.load_state_dict(model_weights(read_verified(file)["state_dict"]))
        mean.update_parameters(module.model)
    module.model.load_state_dict(mean.module.state_dict())
    module.to(device).model.train()
    if module.frozen is not None:
        module.frozen.apply(max(files) - 1)
    update_bn(_batches(plan, device, console), _TrainedNorms(module))
    return module.model.state_dict()


class _TrainedNorms(nn.Module):
    """The BatchNorms that update their statistics; a call runs the network on a batch as in training."""

    def __init__(self, module: TrainingModule):
        super().__init__()
        self.norms = nn.ModuleList(m for m in module.model.modules() if isinstance(m, _BatchNorm) and m.training)
        self._losses = module.losses

    def forward(self, inputs: dict[str, Any]) -> None:
        self._losses(inputs["batch"])


def _batches(plan: Plan, device: torch.device, console: Console) -> Iterator[dict[str, Any]]:
    """Iterate over the batches of the first epoch, in a dict, since ``update_bn`` would take a list apart."""
    size = plan.config.batch_size
    assert isinstance(size, int)
    with progress_bar(console, "statistics of BatchNorm", len(plan.source.train)) as advance:
        for step, batch in enumerate(plan.data_module().train_dataloader()):
            seed_step(plan.config.seed, step)
            yield {"batch": move_data_to_device(batch, device)}
            advance((step + 1) * size)
