"""Make the plan of a training run from its options."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import timm
import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from timm.optim import list_optimizers

from transxnet.data.short_check import describe_problems
from transxnet.models.create import check_name, create_model
from transxnet.models.model_spec import parse_model_name
from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import Run
from transxnet.training.batch_size import largest_batch
from transxnet.training.compile_choice import choose_compile
from transxnet.training.defaults import DefaultsResolver
from transxnet.training.distributed import check_launch, resolve_hardware
from transxnet.training.extensions import NO_EXTENSIONS, Extensions
from transxnet.training.plan import Plan
from transxnet.training.plan_classify import plan_classify
from transxnet.training.plan_dense import plan_detect, plan_segment
from transxnet.training.plan_pretrain import plan_pretrain
from transxnet.utils.errors import UserError, nearest
from transxnet.utils.option_names import as_option

_PLANNERS: dict[str, Callable[..., Plan]] = {
    "classify": plan_classify,
    "detect": plan_detect,
    "segment": plan_segment,
    "pretrain": plan_pretrain,
}

FEW_IMAGES = 20_000
"""Number of training images below which a training from random weights comes with a recommendation."""


def make_plan(
    config: TrainConfig,
    console: Console,
    run: Run | None = None,
    resumed: bool = False,
    extensions: Extensions = NO_EXTENSIONS,
) -> Plan:
    """Open the data, build the model and resolve the options that are null.

    Args:
        config: training options.
        console: console for progress.
        run: run to resume, whose split is used.
        resumed: whether a checkpoint of that run will replace the weights.
        extensions: objects of the caller that take part in the training.

    Raises:
        UserError: the data, model or weights cannot be opened or do not fit together.
    """
    hardware = resolve_hardware(config)
    check_launch(hardware.processes, has_folder=run is not None or config.out is not None)
    if config.freeze_epochs is not None and hardware.processes > 1:  # DistributedDataParallel plans its buckets once
        raise UserError(
            f"--freeze-epochs is not supported with {hardware.processes} processes. Train with --freeze first, then "
            "start a second run from it with --checkpoint."
        )
    if not resumed:
        check_names(config)  # before the data is read, which may take long
    seed_everything(config.seed, verbose=False)
    defaults: DefaultsResolver[Any] = DefaultsResolver(config, hardware)
    stored_split = Path(config.split_file) if config.split_file is not None else run and run.stored_split
    extensions.check_task(config.task)
    own = {"extensions": extensions} if config.task == "classify" else {}
    plan = _PLANNERS[config.task](defaults, console, stored_split, resumed, **own)
    images = len(plan.source.val)
    if 0 < images < hardware.processes:  # the others would wait for a process without a validation image
        raise UserError(
            f"{hardware.processes} processes need at least as many validation images, got {images}. Use fewer "
            "--devices or add validation images."
        )
    defaults.resolve_common(
        len(plan.source.train_items), lambda config, *sizes: largest_batch(replace(plan, config=config), *sizes)
    )
    if not resumed and defaults.config.compile is None:
        with console.status("measuring whether compiling is faster"):
            chosen = choose_compile(replace(plan, config=defaults.config))
        if chosen is None:
            defaults.config = defaults.config.replace(compile=False)
        else:
            defaults.resolve("compile", *chosen)
    notes = plan.notes
    if not resumed:
        about = describe_problems(plan.source)
        notes = [_weights_note(config, len(plan.source.train)), *plan.notes, *([] if about is None else [about])]
    if plan.validates:
        return replace(plan, config=defaults.config, notes=notes)
    for option, given in (("patience", config.patience), ("average", config.selects_by_validation and config.average)):
        if given:
            raise UserError(
                f"--{option} {given} needs validation images, got none. Remove --{option} or --val-fraction 0."
            )
    saved = "the last epoch is saved" if config.average is None else "the mean of the last epochs is saved"
    notes = [*notes, f"no validation set (val_fraction 0): nothing is validated, and {saved}"]
    return replace(plan, config=defaults.config.replace(select="last"), notes=notes)


def _weights_note(config: TrainConfig, images: int) -> str:
    """Describe the initial weights."""
    if config.checkpoint is not None:
        return f"weights: {config.checkpoint}"
    if config.pretrained:
        return "weights: published, trained on ImageNet"
    published = timm.models.is_model_pretrained(parse_model_name(config.model).architecture)
    options = "--pretrained or --checkpoint" if published else "--checkpoint"
    advice = f". With few images, {options} is recommended" if images < FEW_IMAGES else ""
    return f"weights: random initialization{advice}"


def check_names(config: TrainConfig) -> None:
    """Check that the model, the optimizer and the checkpoint exist; raises UserError."""
    spec = check_name(config.model)
    if own := spec.options.keys() & {field.name for field in fields(config)}:
        option = sorted(own)[0]
        raise UserError(f"{config.model}: {option} is a training option, not a model option. Use {as_option(option)}.")
    optimizer, known = config.opt.lower().removeprefix("lookahead_"), [str(name) for name in list_optimizers()]
    if optimizer not in known:
        raise UserError(
            f"timm has no optimizer {config.opt!r}.{nearest(optimizer, known)} "
            "Accepted: adamw, sgd, lamb and others; timm.optim.list_optimizers() lists them."
        )
    if config.checkpoint is not None and config.pretrained:
        raise UserError("pretrained and checkpoint cannot be combined. Remove one of them.")
    if config.checkpoint is not None and not Path(config.checkpoint).exists():
        raise UserError(f"checkpoint {config.checkpoint} does not exist. Accepted: a run folder or a weights file.")


def check_model(name: str) -> None:
    """Raise UserError unless the model can be built with its options; nothing is computed."""
    try:
        with torch.device("meta"):
            create_model(parse_model_name(name).untagged_name)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:  # networks raise different types
        raise UserError(f"cannot create {name}: {error}") from error
