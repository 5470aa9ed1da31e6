"""Training a classifier, from DATA to a run folder with its report."""

import logging
import os
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from torch import nn

from transxnet.data.image_set import ImageSet
from transxnet.data.module import ClassificationData
from transxnet.data.sources import Source, open_source, without_unreadable
from transxnet.data.split import write_split
from transxnet.data.transforms import Preprocessing
from transxnet.errors import UserError
from transxnet.files import next_free
from transxnet.models.checkpoints import convert_official_state_dict, load_adapted, read_checkpoint
from transxnet.models.create import create_model, create_sized_model, split_tag
from transxnet.models.transxnet import TransXNet
from transxnet.tasks.callbacks import EpochLog, GracefulStop
from transxnet.tasks.choices import processes, resolve
from transxnet.tasks.classify import Classifier
from transxnet.tasks.config import TrainConfig
from transxnet.tasks.progress import progress_bar
from transxnet.tasks.results import chosen_weights, write_results
from transxnet.tasks.run import Run, save_model

_OUT = "TRANSXNET_OUT"


def train(
    data: str | None = None,
    *,
    recipe: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    **options: Any,
) -> Run:
    """Train a classifier on DATA and write a run folder.

    Args:
        data: a folder of class folders, a built-in sample (elpv, digits) or a timm reader name.
        recipe: one of the package's recipes by name, or a YAML file, whose values the options override.
        resume: an interrupted run's folder to go on with; then nothing else is given.
        overwrite: write over the run that ``out`` holds.
        console: where to report; by default standard output.
        **options: the fields of :class:`~transxnet.tasks.config.TrainConfig`.

    Returns:
        The run, with weights, figures and report.

    Raises:
        UserError: an option, the data or a checkpoint is not right, or the loss is no number any more.
        Interrupted: the training was asked to stop; it is saved.
    """
    _quiet()
    console = console or Console()
    if resume is not None:
        if data is not None or recipe is not None or options:
            raise UserError("--resume goes on with a run as it was started; give no other option beside it.")
        run = Run.open(resume)
        plan = _plan(run.read_config(), run.split_file if run.split_file.is_file() else None, console)
        console.print(f"going on with {run.path}", highlight=False, soft_wrap=True)
    else:
        if data is None:
            raise UserError(
                "name the data to train on: a folder of class folders, elpv, digits, or a timm reader name."
            )
        config = TrainConfig.create(data, recipe, **options)
        if config.out is not None and _is_first_process():
            Run.check_free(Path(config.out), overwrite)  # before the data is read, which may take long
        plan = _plan(config, None, console)
        run = _make_run(plan, overwrite)
    _say(plan, console)
    return _fit(plan, run, resume is not None, console)


@dataclass(frozen=True)
class _Plan:
    """What is to be trained on what, all options settled."""

    config: TrainConfig
    source: Source
    model: nn.Module
    model_args: dict[str, Any]
    preprocessing: Preprocessing
    choices: list[str]
    notes: list[str]


def _plan(config: TrainConfig, stored_split: Path | None, console: Console) -> _Plan:
    seed_everything(config.seed, verbose=False)
    source, notes = _open_data(config, stored_split, console)
    model, model_args, preprocessing = _build(config, source)
    config, choices = resolve(config, source, preprocessing)
    return _Plan(config, source, model, model_args, preprocessing, choices, notes)


def _make_run(plan: _Plan, overwrite: bool) -> Run:
    """Make the run's folder with everything that is known before the first step."""
    config, source = plan.config, plan.source
    out = Path(os.environ.get(_OUT) or config.out or next_free(Path("runs"), _stem(config)))
    if not _is_first_process():
        return Run(out)
    os.environ[_OUT] = str(out)  # for the processes that Lightning starts beside this one
    run = Run.create(out, overwrite)
    run.write_config(config.replace(out=str(out)))
    run.write_environment(_command(config), plan.choices + plan.notes)
    if source.split_made and isinstance(source.train, ImageSet) and isinstance(source.val, ImageSet):
        write_split(run.split_file, {"train": source.train.own_names, "val": source.val.own_names})
    return run


def _fit(plan: _Plan, run: Run, resumed: bool, console: Console) -> Run:
    config, source = plan.config, plan.source
    classifier = Classifier(plan.model, len(source.class_names), config)
    log = EpochLog(run, console)
    trainer = _trainer(run, config, console, log)
    checkpoint = run.last_checkpoint if resumed and run.last_checkpoint.is_file() else None
    if resumed and checkpoint is None:
        console.print("no checkpoint was saved before the interruption: starting from the beginning")
    try:
        trainer.fit(classifier, _batches(plan), ckpt_path=checkpoint, weights_only=True)
    finally:
        os.environ.pop(_OUT, None)
    if trainer.is_global_zero:
        weights = chosen_weights(run, classifier)
        save_model(run, weights, split_tag(config.model)[0], plan.model_args, source.class_names, plan.preprocessing)
        write_results(run, config, source, log, console)
    return run


def _batches(plan: _Plan) -> ClassificationData:
    config = plan.config
    assert config.batch_size is not None and config.workers is not None
    train_transform = plan.preprocessing.training_transform(
        min_scale=config.min_scale,
        hflip=config.hflip,
        vflip=config.vflip,
        color_jitter=config.color_jitter,
        auto_augment=config.auto_augment,
        random_erasing=config.random_erasing,
    )
    val_transform = plan.preprocessing.transform()
    return ClassificationData(
        plan.source, train_transform, val_transform, config.batch_size, config.workers, config.seed
    )


def _open_data(config: TrainConfig, stored_split: Path | None, console: Console) -> tuple[Source, list[str]]:
    source = open_source(
        config.data,
        val_fraction=config.val_fraction,
        seed=config.seed,
        stored_split=stored_split,
        train_split=config.train_split,
        val_split=config.val_split,
        num_classes=config.num_classes,
    )
    parts, notes = {}, list(source.notes)
    for part in ("train", "val"):
        images = getattr(source, part)
        with progress_bar(console, f"looking at the images ({part})", len(images)) as advance:
            parts[part], unreadable = without_unreadable(images, advance)
        notes += unreadable
    return Source(parts["train"], parts["val"], source.split_made, source.img_size, notes), notes


def _build(config: TrainConfig, source: Source) -> tuple[nn.Module, dict[str, Any], Preprocessing]:
    options: dict[str, Any] = dict(num_classes=len(source.class_names), pretrained=config.pretrained)
    rates = {"drop_path_rate": config.drop_path_rate, "drop_rate": config.drop_rate}
    options |= {name: rate for name, rate in rates.items() if rate}
    size = config.img_size or source.img_size or _own_size(config.model)
    try:
        model, model_args = create_sized_model(config.model, size, **options)
    except TypeError as error:
        raise UserError(f"{config.model} does not take one of the options {', '.join(options)}: {error}") from error
    if config.checkpoint is not None:
        _start_from(model, config.checkpoint)
    if config.grad_checkpointing:
        model.set_grad_checkpointing()  # type: ignore[operator]
    return model, model_args, Preprocessing.of_model(model, size, config.crop_pct)


def _start_from(model: nn.Module, checkpoint: str) -> None:
    """Weights to start from: a run's, a published file's, or those of a file in the model's own layout."""
    path = Path(checkpoint)
    tensors = dict(read_checkpoint(Run.open(path).weights_file if path.is_dir() else path))
    load_adapted(model, convert_official_state_dict(tensors) if isinstance(model, TransXNet) else tensors)


def _own_size(model: str) -> int:
    return int(create_model(model).pretrained_cfg["input_size"][-1])  # type: ignore[union-attr, index]


def _trainer(run: Run, config: TrainConfig, console: Console, log: EpochLog) -> Trainer:
    assert config.epochs is not None
    callbacks: list[Callback] = [
        log,
        GracefulStop(run),
        ModelCheckpoint(
            dirpath=run.path,
            filename="best",
            monitor="val_accuracy",
            mode="max",
            save_last=True,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        ),
    ]
    if console.is_terminal:
        callbacks.append(RichProgressBar(leave=False))
    return Trainer(
        default_root_dir=run.path,
        max_epochs=config.epochs + config.cooldown_epochs,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip_grad,
        precision=config.precision,  # type: ignore[arg-type]
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        sync_batchnorm=processes(config) > 1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=TensorBoardLogger(run.path, name="tensorboard", version=""),
        enable_progress_bar=console.is_terminal,
        enable_model_summary=False,
    )


def _say(plan: _Plan, console: Console) -> None:
    config, source = plan.config, plan.source
    console.print(
        f"[bold]{config.model}[/bold] on [bold]{config.data}[/bold]: {len(source.train):,} images to train on, "
        f"{len(source.val):,} held out, {len(source.class_names)} classes",
        highlight=False,
        soft_wrap=True,
    )
    for choice in plan.choices:
        console.print(f"  chose {choice}", highlight=False, markup=False, soft_wrap=True, style="dim")
    for note in plan.notes:
        console.print(f"  {note}", highlight=False, markup=False, soft_wrap=True)


def _command(config: TrainConfig) -> str:
    """The shell command that trains this again."""
    default = TrainConfig(config.data)
    words = ["transxnet", "train", config.data]
    for name, value in config.to_dict().items():
        if name not in ("data", "out") and value != getattr(default, name):
            words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)


def _stem(config: TrainConfig) -> str:
    data = Path(config.data)
    return f"{config.model}-{data.resolve().name if data.exists() else config.data.replace('/', '-')}"


def _is_first_process() -> bool:
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))


def _quiet() -> None:
    """Lightning's hints are for its own users; ours are printed by us."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The number of training batches .* is smaller than the logging interval.*",
        ".*module.s. in eval mode at the start of training.*",  # the averaged weights are never trained
        ".*isinstance.treespec, LeafSpec.*",
        ".*No positive samples in targets.*",
    ):
        warnings.filterwarnings("ignore", message)
