"""Lightning module for pretraining without labels."""

from types import MappingProxyType

import torch
from torch import Tensor, nn

from transxnet.metrics.best_epoch import monitored_metric
from transxnet.metrics.embeddings import EmbeddingEvaluation
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.training.lightning_module import TrainingModule
from transxnet.training.objectives import GatheredOutputs


class Pretrainer(TrainingModule):
    """Lightning module of a network that is pretrained.

    Args:
        model: network (B, 3, S, S) -> (B, F), pooled features.
        method: its heads and loss, from the features and the views; a ``PretrainMethod``.
        config: resolved options.
        class_names: classes of the validation images; fewer than two without labels.
    """

    config: PretrainConfig
    monitor = monitored_metric("pretrain")
    columns = MappingProxyType(
        {"val_knn_accuracy": "k-NN accuracy", "val_effective_rank": "rank", "val_embedding_std": "std"}
    )

    def __init__(self, model: nn.Module, method: nn.Module, config: PretrainConfig, class_names: list[str]):
        super().__init__(model, config)
        self.method, self.class_names = method, class_names
        self.embeddings = GatheredOutputs()
        self._train_forward = [torch.compile(model) if config.compile else model]  # in a list, as in Classifier

    @property
    def trained(self) -> nn.Module:
        """The network and the heads."""
        return nn.ModuleDict({"model": self.model, "method": self.method})

    def losses(self, batch: tuple[list[Tensor], Tensor, Tensor]) -> dict[str, Tensor]:
        """Compute the loss of a batch of views, with the heads in full precision."""
        views = [view.contiguous(memory_format=torch.channels_last) for view in batch[0]]
        features = [self._train_forward[0](view).float() for view in views]
        with self.full_precision():
            return {"loss": self.method(features, views)}

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Add the embeddings of a validation batch."""
        images, target, _ = batch
        with self.full_precision():
            features = self.best_weights(images.contiguous(memory_format=torch.channels_last))
        self.embeddings.update(features.float(), target)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation images."""
        features, labels = self.embeddings.compute()
        self.embeddings.reset()
        evaluation = EmbeddingEvaluation(features.cpu().numpy(), self.class_names, labels.cpu().numpy())
        self.log_validation(evaluation.metrics())
