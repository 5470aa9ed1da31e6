"""timm's interface for four-stage networks: classifier, intermediates, dense features, configuration."""

from collections.abc import Sequence
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead
from timm.models import FeatureInfo, build_model_with_cfg, resolve_pretrained_cfg
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from transxnet.models.checkpoints import load_pretrained
from transxnet.models.four_stages import FourStages, init_weights


class StageByStage:
    """The forward passes of a classifier that consists of ``stages``, a final ``norm`` and a head."""

    stages: Any
    norm: Any
    forward_head: Any

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalized features of the last stage: (B, in_chans, H, W) -> (B, num_features, ⌈H/32⌉, ⌈W/32⌉)."""
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the outputs of selected stages, and the final features.

        Args:
            x: (B, in_chans, H, W).
            indices: stages 0 to 3, or the number of last ones, or None for all.
            norm: apply the final norm to the last stage's output, the only one that it fits.
            stop_early: compute no stage after the last selected one.
            output_fmt: "NCHW".
            intermediates_only: omit the final features.

        Returns:
            The stages' outputs (B, C, H', W') in order, preceded by the final features unless omitted.

        Raises:
            ValueError: another output_fmt.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take, last = feature_take_indices(len(self.stages), indices)
        intermediates = []
        for i, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            x = stage(x)
            if i in take:
                intermediates.append(self.norm(x) if norm and i == len(self.stages) - 1 else x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if i == len(self.stages) - 1 else x), intermediates


class ClassifierForm(StageByStage, FourStages):
    """The classification network: the stages, a norm, and a head that pools and classifies.

    In the bases it precedes the class that builds the stages: ``class TransXNet(ClassifierForm, Backbone)``.

    Args:
        num_classes: number of outputs; 0 for no classifier, which returns the pooled features.
        global_pool: "avg", another of timm's poolings, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout rate before the classifier.
        **backbone: arguments of the stages.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes).
    """

    def __init__(self, num_classes: int = 1000, global_pool: str = "avg", drop_rate: float = 0.0, **backbone: Any):
        super().__init__(**backbone)
        self.num_classes = num_classes
        self.norm = nn.GroupNorm(1, self.num_features)
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.head.apply(init_weights)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify: (B, num_features, H', W') -> (B, num_classes), or with pre_logits (B, num_features)."""
        return self.head(x, pre_logits=pre_logits)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of ``indices``; optionally also the final norm and the head."""
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_norm or last + 1 < len(self.feature_info):
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """The layer that maps pooled features to classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, and optionally the pooling before it."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        self.head.to(next(self.stages.parameters()))  # timm before 1.0.29 creates it in float32 on the CPU


class FeaturesForm(FourStages):
    """The dense-prediction network: each selected stage's output with its own GroupNorm.

    In the bases it precedes the class that builds the stages, as in :class:`ClassifierForm`. Stages after the last
    output are dropped.

    Args:
        out_indices: the stages, 0 to 3, negative ones counted from the end; or the number of last ones. The outputs are
            in the order of the stages.
        **backbone: arguments of the stages.

    Shapes:
        (B, in_chans, H, W) -> a list of (B, embed_dims[i], ceil(H / r), ceil(W / r)), r = 4, 8, 16, 32.

    Raises:
        ValueError: stages that do not exist, or a stage twice.
    """

    def __init__(self, out_indices: int | Sequence[int] = (0, 1, 2, 3), **backbone: Any):
        super().__init__(**backbone)
        given = tuple(range(-out_indices, 0)) if isinstance(out_indices, int) else tuple(out_indices)
        taken = sorted(i + 4 if i < 0 else i for i in given)
        if not taken or taken != sorted(set(taken) & set(range(4))):
            raise ValueError(
                "out_indices must be different stages from 0 to 3, or a number of last stages from 1 to 4, got "
                f"{out_indices}"
            )
        self.num_classes = 0
        self.stages = self.stages[: taken[-1] + 1]
        self.norms = nn.ModuleDict({str(i): nn.GroupNorm(1, self.feature_info[i]["num_chs"]) for i in taken})
        self.feature_info = FeatureInfo(self.feature_info, taken)
        self.out_indices = tuple(taken)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                features.append(self.norms[str(i)](x))
        return features


def imagenet_cfg(url: str = "", **kwargs: Any) -> dict:
    """timm's pretrained configuration of a network for ImageNet at 224x224, with overrides."""
    return {
        "url": url,
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        **kwargs,
    }


def cfg(url: str = "", **kwargs: Any) -> dict:
    """timm's pretrained configuration of the published networks, with overrides."""
    own = {
        "first_conv": "stages.0.patch_embed.conv",
        "classifier": "head.fc",
        "paper_ids": "arXiv:2310.19380",
        "paper_name": "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token Mixer for Visual "
        "Recognition",
        "origin_url": "https://github.com/LMMMEng/TransXNet",
        "license": "apache-2.0",
    }
    return imagenet_cfg(url, **(own | kwargs))


def create_network(
    classifier: type[ClassifierForm],
    features: type[FeaturesForm],
    variant: str,
    pretrained: bool,
    cache_dir: str | None = None,
    **kwargs: Any,
) -> Any:
    """Create the network of a registered entry point.

    Args:
        classifier: class of the network.
        features: class of the network with ``features_only=True``.
        variant: registered name of the network.
        pretrained: load the published weights.
        cache_dir: folder for downloaded files, instead of timm's cache.
        **kwargs: arguments from ``timm.create_model``, and arguments of the class.
    """
    features_only = kwargs.get("features_only", False)
    kind: type[ClassifierForm] | type[FeaturesForm] = classifier
    if features_only and "feature_cls" not in kwargs:
        kind = features
        del kwargs["features_only"]
    elif features_only:  # timm wraps the classifier
        kwargs = {"out_indices": (0, 1, 2, 3), "feature_cfg": dict(flatten_sequential=True), **kwargs}

    def build(**arguments: Any) -> nn.Module:
        model = kind(**arguments)
        if pretrained:  # here, and not in timm, which drops tensors that do not fit
            sources = (kwargs.get(name) for name in ("pretrained_cfg", "pretrained_cfg_overlay"))
            load_pretrained(model, resolve_pretrained_cfg(variant, *sources).to_dict(), cache_dir)
        return model

    kwargs_filter = ("num_classes", "global_pool") if features_only else None
    return build_model_with_cfg(build, variant, pretrained=False, kwargs_filter=kwargs_filter, **kwargs)
