"""Training, from DATA to a run folder with its report."""

import logging
import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from rich.console import Console

from transxnet.data.dense_sources import DenseSource
from transxnet.data.readers import Stream
from transxnet.data.split import write_split
from transxnet.runs.config import TrainConfig
from transxnet.runs.load import save_model
from transxnet.runs.recipes import make_config
from transxnet.runs.run_folder import Run, is_first_process
from transxnet.training.callbacks import BestAndLast, EpochLog, GracefulStop, write_rows
from transxnet.training.checkpoint_files import (
    CheckpointFiles,
    check_fits,
    find_checkpoint,
    forget_previous,
    last_good,
    once_mended,
)
from transxnet.training.defaults import on_cpu, on_gpu, processes
from transxnet.training.determinism import deterministic
from transxnet.training.distributed import ProcessWatch, check_launch
from transxnet.training.error_messages import explained, said_once
from transxnet.training.lightning_module import NonFiniteLoss, Training
from transxnet.training.plan import Plan, make_plan
from transxnet.training.results import chosen_weights, write_results
from transxnet.training.sync_batchnorm import BatchNormSync
from transxnet.utils.errors import UserError
from transxnet.utils.files import (
    WriteError,
    describe_os_error,
    describe_write_error,
    is_disk_error,
    next_free_path,
    safe_file_name,
)

_OUT = "TRANSXNET_OUT"


def train(
    data: str | Path | None = None,
    *,
    task: str | None = None,
    recipe: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    **options: Any,
) -> Run:
    """Train a classifier, a detector or a segmenter on DATA and write a run folder.

    Args:
        data: a folder (of class folders; with COCO's or Pascal VOC's annotations; of photographs and label maps), a
            built-in sample (elpv, digits, scenes) or a timm reader name.
        task: "classify", "detect" or "segment"; by default the recipe's, or what the data is for.
        recipe: one of the package's recipes by name, or a YAML file, whose values the options override.
        resume: an interrupted run's folder to go on with; then nothing else is given.
        overwrite: write over the run that ``out`` holds.
        console: where to report; by default standard output.
        **options: the fields of :class:`~transxnet.runs.config.TrainConfig` and those of the task's own class in
            :mod:`transxnet.runs.task_configs`.

    Returns:
        The run, with weights, figures and report.

    Raises:
        UserError: an option, the data or a checkpoint is not right, or the loss is no number any more.
        Interrupted: the training was asked to stop; it is saved.
    """
    _quiet()
    console = console or Console()
    if resume is not None:
        if data is not None or task is not None or recipe is not None or overwrite or options:
            raise UserError("--resume goes on with a run as it was started; give no other option beside it.")
        run = Run.open(resume)
        with _advice(run), run.reopen():
            config = run.read_config()
            check_launch(config, run.path)
            checkpoint = find_checkpoint(run, console)
            with deterministic(config.deterministic):
                plan = make_plan(config, console, run.stored_split, resumed=checkpoint is not None)
                training = _prepare(plan, run, console, checkpoint)
                _say(plan, run, console)
                if checkpoint is None:
                    what = "no checkpoint was saved before the interruption: starting from the beginning"
                    console.print(what, soft_wrap=True)
                return _fit(training, console, checkpoint)
    if data is None:
        raise UserError(
            "name the data to train on: a folder (the README has the layouts), a sample (elpv, digits, scenes), "
            "or a timm reader name."
        )
    config = make_config(data, recipe, task, **options)
    if config.out is not None and is_first_process():
        Run.check_free(Path(config.out), overwrite)  # before the data is read, which may take long
    check_launch(config, config.out)
    with deterministic(config.deterministic), ExitStack() as held:
        plan = make_plan(config, console)
        path = Path(os.environ.get(_OUT) or config.out or next_free_path(Path("runs"), _stem(config)))
        training = _prepare(plan, Run(path), console)
        if is_first_process():
            _fill(plan, held.enter_context(Run.create(path, overwrite)))
        with _advice(training.run):
            _say(plan, training.run, console)
            return _fit(training, console)


@contextmanager
def _advice(run: Run) -> Iterator[None]:
    """Say with a failure of the disk how to go on."""
    try:
        with said_once():
            yield
    except WriteError as error:
        raise WriteError(f"{error} {once_mended(run)}") from error
    except OSError as error:
        if run.path.is_dir() and not is_disk_error(error):
            raise
        path = Path(os.fsdecode(error.filename)) if error.filename else run.path  # TensorBoard's is bytes
        if run.path.is_dir() and not path.absolute().is_relative_to(run.path.absolute()):  # an image, say
            raise UserError(f"{path}: {describe_os_error(error)} {once_mended(run)}") from error
        raise WriteError(f"{describe_write_error(path, error)} {once_mended(run)}") from error


@dataclass(frozen=True)
class _Prepared:
    """All that takes part in a training; making it has touched no file."""

    plan: Plan
    run: Run
    module: Training
    batches: LightningDataModule
    log: EpochLog
    stop: GracefulStop
    trainer: Trainer


def _prepare(plan: Plan, run: Run, console: Console, checkpoint: Path | None = None) -> _Prepared:
    module = plan.training()
    log, stop, files = EpochLog(run, console), GracefulStop(run), CheckpointFiles(run, checkpoint)
    callbacks: list[Callback] = [log, stop, BestAndLast(run, module.monitor, console), ProcessWatch(run)]
    try:
        trainer = _trainer(run, plan.config, console, callbacks, files)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        config = plan.config
        raise UserError(
            f"this machine or Lightning does not take accelerator {config.accelerator}, devices {config.devices}, "
            f"strategy {config.strategy} and precision {config.precision} together: {error}"
        ) from error
    return _Prepared(plan, run, module, plan.batches(), log, stop, trainer)


def _fill(plan: Plan, run: Run) -> None:
    """Write what is known before the first step; the configuration last, as the sign that a training has begun."""
    config, source = plan.config, plan.source
    try:
        run.write_environment(_command(config), plan.choices + plan.notes)
        if source.split_made:
            assert not isinstance(source.train, Stream) and not isinstance(source.val, Stream)
            parts = {"train": source.train, "val": source.val}
            write_split(run.split_file, {part: map(images.name, range(len(images))) for part, images in parts.items()})
        data = str(Path(config.data).resolve()) if Path(config.data).exists() else config.data
        run.write_config(config.replace(data=data, out=None))  # the folder may be moved; the data may not
    except BaseException:
        with suppress(OSError):
            run.clear()
        raise


def _fit(training: _Prepared, console: Console, checkpoint: Path | None = None) -> Run:
    plan, run, trainer = training.plan, training.run, training.trainer
    known = check_fits(run, checkpoint, training.module)["callbacks"] if checkpoint is not None else {}
    if is_first_process():  # an epoch that ended after the checkpoint comes again
        write_rows(run.metrics_file, known.get("EpochLog", {}).get("rows", []))
    os.environ[_OUT] = str(run.path)  # for the processes that Lightning starts beside this one
    try:
        with training.stop.listening():
            trainer.fit(training.module, training.batches, ckpt_path=checkpoint, weights_only=True)
    except NonFiniteLoss as error:
        raise NonFiniteLoss(f"{error} {last_good(run)}") from error
    except (RuntimeError, ValueError, MemoryError) as error:
        if training.stop.asked:  # a cluster that ends a job ends the workers too, and they may be quicker
            training.stop.stop("stopped at once; what came after the last save is lost.")
        if (known := explained(error, plan.config, run)) is not None:
            raise known from error
        raise
    finally:
        del os.environ[_OUT]
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()  # the results are for all of the held-out images, not this process's share
    if trainer.is_global_zero:
        save_model(run, chosen_weights(run, training.module), plan.description())
        write_results(run, plan.config, plan.source, training.log.rows, console)
        forget_previous(run)
    return run


def _trainer(
    run: Run, config: TrainConfig, console: Console, callbacks: list[Callback], files: CheckpointFiles
) -> Trainer:
    assert config.epochs is not None
    if console.is_terminal:
        callbacks = [*callbacks, RichProgressBar(leave=False)]
    # Lightning would take bfloat16 without a scaler in its place.
    half_on_cpu = config.precision == "16-mixed" and on_cpu(config)
    plugins: list[Any] = [files, *([MixedPrecision("16-mixed", "cpu")] if half_on_cpu else [])]
    if processes(config) > 1:
        plugins.append(BatchNormSync(gpu=on_gpu(config)))
    return Trainer(
        default_root_dir=run.path,
        max_epochs=config.epochs + config.cooldown_epochs,
        check_val_every_n_epoch=config.val_every,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip_grad,
        precision=None if half_on_cpu else config.precision,  # type: ignore[arg-type]
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        plugins=plugins,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=TensorBoardLogger(run.path, name="tensorboard", version=""),
        enable_progress_bar=console.is_terminal,
        enable_model_summary=False,
    )


def _say(plan: Plan, run: Run, console: Console) -> None:
    config, source = plan.config, plan.source
    what = {"detect": "objects", "segment": "label maps"}.get(config.task)
    why = [f"task {config.task}: {source.recognition.why}"] if isinstance(source, DenseSource) else []
    lines = [
        f"{config.model} on {config.data}: {len(source.train):,} images to train on, {len(source.val):,} held out, "
        f"{len(source.class_names)} classes" + (f" of {what}" if what else ""),
        *(f"  {line}" for line in why),
        *(f"  chose {choice}" for choice in plan.choices),
        *(f"  {note}" for note in plan.notes),
        f"run folder {run.path}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True, style="dim" if "  chose" in line else None)


def _command(config: TrainConfig) -> str:
    """The shell command that trains this again."""
    default = type(config)(config.data)
    words = ["transxnet", "train", config.data, *([] if config.task == "classify" else ["--task", config.task])]
    for name, value in config.to_dict().items():
        if name not in ("task", "data", "out") and value != getattr(default, name):
            words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)


def _stem(config: TrainConfig) -> str:
    data = Path(config.data)
    return f"{safe_file_name(config.model)}-{data.resolve().name if data.exists() else config.data.replace('/', '-')}"


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
        ".*your dataloader is not resumable.*",  # it is: its sampler leaves out what was drawn before
        ".*No positive samples in targets.*",
        ".*Grad strides do not match bucket view strides.*",  # those of kernels' only channel, which mean nothing
    ):
        warnings.filterwarnings("ignore", message)
