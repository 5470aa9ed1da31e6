"""The command ``train``: train a model on DATA and write a run folder with a report."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from transxnet.data.formats.exclusions import copy_exclusions
from transxnet.data.split import write_split
from transxnet.runs.config import TrainConfig
from transxnet.runs.load import save_model
from transxnet.runs.recipes import Recipe, make_config
from transxnet.runs.run_folder import Run, is_first_process
from transxnet.runs.training_data import run_config
from transxnet.training.callbacks import write_metrics
from transxnet.training.checkpoint_files import (
    Checkpoint,
    check_matches,
    find_checkpoint,
    remove_previous,
    resume_hint,
    weights_hint,
)
from transxnet.training.class_balance import BALANCED
from transxnet.training.determinism import deterministic
from transxnet.training.dry_run import try_steps
from transxnet.training.error_messages import describe_training_error, ignore_stored_thread_errors
from transxnet.training.extensions import Extensions, name_of
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.training.make_plan import make_plan
from transxnet.training.plan import Plan
from transxnet.training.prepare_training import PreparedTraining, prepare_training, silence_lightning
from transxnet.training.results import select_weights, write_results
from transxnet.utils.errors import Interrupted, UserError, check_resumed_alone
from transxnet.utils.files import (
    WriteError,
    describe_os_error,
    describe_write_error,
    is_disk_error,
    next_free_path,
    safe_file_name,
)
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count

_OUT = "TRANSXNET_OUT"


def train(
    data: str | Path | None = None,
    *,
    task: str | None = None,
    recipe: str | Path | Recipe | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    callbacks: Sequence[Callback] = (),
    logger: str | Logger | Sequence[Logger] | None = None,
    loss: str | nn.Module | None = None,
    train_transform: Callable[[Image.Image], Tensor] | None = None,
    dataset: Any = None,
    console: Console | None = None,
    **options: Any,
) -> Run:
    """Train a classifier, a detector or a segmenter on DATA and write a run folder.

    Args:
        data: a folder (class folders, COCO or Pascal VOC annotations, or images with label maps), a table of images and
            labels, a built-in sample (elpv, digits, scenes) or a timm reader name.
        task: "classify", "detect" or "segment"; by default the recipe's task, or the one that the data is for.
        recipe: name of a recipe of the package, or a YAML file; options override its values.
        resume: folder of an interrupted run to resume; the only option that it takes is ``epochs``, to train longer.
        overwrite: overwrite the run in ``out``.
        dry_run: print what would be trained, run two steps, and write nothing; the folder of the returned run does not
            exist.
        callbacks: Lightning callbacks in addition to this package's. They are not stored in the run folder: pass them
            again to resume; their ``state_dict`` is restored.
        logger: Lightning loggers in addition to TensorBoard's, or the name of one: wandb, mlflow or trackio. Objects
            are not stored in the run folder either. They receive the loss and the learning rate of each update and the
            metrics of each epoch.
        loss: name of a loss, or a module for classes or labels, called with logits (B, C) and the targets: class
            indices (B,), probabilities (B, C) with mixup, or labels (B, C), NaN if unknown. It returns the mean loss,
            or the losses (B,) of the images. Its parameters are not trained.
        train_transform: for classifiers, replaces the augmentation: called with a PIL image in RGB, returns a tensor
            (3, H, W). Validation images are preprocessed as for the model.
        dataset: instead of ``data``, a map-style data set of PIL images and class indices, such as torchvision's, or a
            pair of them for training and validation. Loss, transform and data set must be passed again to resume.
        console: console to print to; by default standard output.
        **options: fields of :class:`~transxnet.runs.config.TrainConfig` and of the task's class in
            :mod:`transxnet.runs.task_configs`.

    Returns:
        The run, with weights, metrics and report.

    Raises:
        UserError: an option, the data or a checkpoint is invalid, or the loss became NaN or Inf.
        Interrupted: training was stopped; its state is saved.
    """
    silence_lightning()
    console = console or Console()
    if isinstance(logger, str):
        options["logger"], logger = logger, None
    if isinstance(loss, str):
        options["loss"], loss = loss, None
    loggers = [logger] if isinstance(logger, Logger) else logger or []
    extensions = Extensions(callbacks, loggers, loss, train_transform, dataset)
    if resume is not None:
        named = dict(data=data, task=task, recipe=recipe, overwrite=overwrite, dry_run=dry_run)
        check_resumed_alone("run", "--epochs", named, [name for name in options if name != "epochs"])
        run = Run.open(resume)
        extensions.check_resumed(run)
        with _explain_disk_errors(run), run.reopen():
            checkpoint = find_checkpoint(run, console)
            config = _lengthened(run.read_config() if dataset is not None else run_config(run), checkpoint, **options)
            with deterministic(config.deterministic):
                plan = make_plan(config, console, run, checkpoint is not None, extensions)
                training = prepare_training(plan, run, console, extensions, checkpoint)
                _print_plan(plan, run, console)
                if options and is_first_process():
                    run.write_config(config)
                if checkpoint is None:
                    message = "no checkpoint found: training starts from the beginning"
                    console.print(message, soft_wrap=True)
                elif checkpoint.epoch >= _last_epoch(config):
                    console.print(
                        "training is finished: only the results are computed again. To train longer, add --epochs",
                        **PLAIN,
                    )
                return _fit(training, console, checkpoint)
    if data is not None and dataset is not None:
        raise UserError("data and dataset cannot be combined. Remove one of them.")
    if dataset is not None:
        data, task = name_of(dataset), task or "classify"
    if data is None:
        raise UserError(
            "no training data given. Name a folder, or a sample such as digits. Accepted layouts: transxnet layouts"
        )
    config = make_config(data, recipe, task, **options)
    if config.out is not None and is_first_process():
        Run.check_free(Path(config.out), overwrite)  # before the data is read, which may take long
    with deterministic(config.deterministic), ExitStack() as held:
        plan = make_plan(config, console, extensions=extensions)
        path = Path(os.environ.get(_OUT) or config.out or next_free_path(Path("runs"), _run_name(config)))
        training = prepare_training(plan, Run(path), console, extensions)
        if dry_run:
            _print_plan(plan, training.run, console)
            try_steps(plan, console)
            return training.run
        if is_first_process():
            held.push(partial(_remove_failed_start, training.run))
            _write_start(plan, held.enter_context(Run.create(path, overwrite)))
        with _explain_disk_errors(training.run):
            _print_plan(plan, training.run, console)
            return _fit(training, console)


def _last_epoch(config: TrainConfig) -> int:
    assert config.epochs is not None
    return config.epochs + config.cooldown_epochs


@contextmanager
def _explain_disk_errors(run: Run) -> Iterator[None]:
    """Add the command to resume to the message of a disk error."""
    try:
        with ignore_stored_thread_errors():
            yield
    except WriteError as error:
        raise WriteError(f"{error} {resume_hint(run)}") from error
    except OSError as error:
        if run.path.is_dir() and not is_disk_error(error):
            raise
        path = Path(os.fsdecode(error.filename)) if error.filename else run.path  # TensorBoard's file name is bytes
        if run.path.is_dir() and not path.absolute().is_relative_to(run.path.absolute()):  # such as an image
            raise UserError(f"{path}: {describe_os_error(error)} {resume_hint(run)}") from error
        raise WriteError(f"{describe_write_error(path, error)} {resume_hint(run)}") from error


def _lengthened(config: TrainConfig, checkpoint: Checkpoint | None, epochs: int | None = None) -> TrainConfig:
    """Return the run's options with another number of epochs.

    Raises:
        UserError: more epochs are already trained.
    """
    if epochs is None:
        return config
    longer = config.replace(epochs=epochs)
    trained = 0 if checkpoint is None else checkpoint.epoch
    if trained > _last_epoch(longer):
        raise UserError(f"the run has {trained} trained epochs, got --epochs {epochs}. Accepted: more than {trained}.")
    return longer


def _remove_failed_start(run: Run, kind: Any, error: BaseException | None, trace: Any) -> None:
    """Remove the folder of a run that failed before its first checkpoint for a reason that the user can fix."""
    stopped = isinstance(error, (Interrupted, WriteError, NonFiniteLoss))
    if isinstance(error, UserError) and not stopped and not run.checkpoints and run.config_file.is_file():
        shutil.rmtree(run.path, ignore_errors=True)


def _write_start(plan: Plan, run: Run) -> None:
    """Write environment, split, excluded images and configuration, which comes last: it marks the run as started."""
    config, source = plan.config, plan.source
    try:
        run.write_environment(
            shlex.join(["transxnet", config.command, config.data, *config.to_arguments()]), plan.choices + plan.notes
        )
        if source.split_made:
            write_split(run.split_file, {part: images.own_names for part, images in source.divided.items()})
        if config.exclude is not None:
            copy_exclusions(config.exclude, run.exclude_file)
        data = str(Path(config.data).resolve()) if Path(config.data).exists() else config.data
        # the run folder may be moved; the data may not
        run.write_config(_with_absolute_paths(config).replace(data=data, out=None))
    except BaseException:
        with suppress(OSError):
            run.clear()
        raise


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Return the configuration with complete paths of other files, since the run may be resumed elsewhere."""
    given = {name: getattr(config, name, None) for name in ("image_folder", "class_weights", "teacher")}
    paths = {name: path for name, path in given.items() if path not in (None, BALANCED) and Path(path).exists()}
    return config.replace(**{name: str(Path(path).resolve()) for name, path in paths.items()})


def _fit(training: PreparedTraining, console: Console, checkpoint: Checkpoint | None = None) -> Run:
    plan, run, trainer = training.plan, training.run, training.trainer
    path, rows = None, []
    if checkpoint is not None:
        check_matches(run, checkpoint, training.module)
        path, rows = checkpoint.path, checkpoint.content["callbacks"].get("EpochLog", {}).get("rows", [])
    if is_first_process():  # epochs that ended after the checkpoint are trained again
        write_metrics(run.metrics_file, rows)
    os.environ[_OUT] = str(run.path)  # for the processes that Lightning starts
    try:
        with training.stop.handle_signals():
            trainer.fit(training.module, training.data, ckpt_path=path, weights_only=True)
    except NonFiniteLoss as error:
        raise NonFiniteLoss(f"{error} {weights_hint(run)}") from error
    except (RuntimeError, ValueError, MemoryError) as error:
        if training.stop.requested:  # a cluster that stops a job also stops its workers, perhaps first
            training.stop.interrupt("stopped immediately; progress since the last checkpoint is lost.")
        known = describe_training_error(error, plan.config, run, plan.hardware.processes)
        if known is not None:
            raise known from error
        raise
    finally:
        del os.environ[_OUT]
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()  # results use the whole validation set, not this process's share
    if trainer.is_global_zero:
        averaged = {} if training.epochs is None else training.epochs.files
        save_model(
            run, select_weights(plan, run, training.module, training.log.rows, averaged, console), plan.description()
        )
        write_results(run, plan, training.log.rows, console, list(averaged))
        remove_previous(run)
    return run


def _print_plan(plan: Plan, run: Run, console: Console) -> None:
    config, source = plan.config, plan.source
    reason = [f"task {config.task}: {source.recognition.why}"] if config.task in ("detect", "segment") else []
    outputs = _describe_outputs(config.predicted, source.class_names)
    lines = [
        f"{config.model} on {config.data}: {format_count(len(source.train), 'training image')}, "
        f"{format_count(len(source.val), 'validation image')}, "
        + ("" if source.test is None else f"{format_count(len(source.test), 'test image')}, ")
        + outputs,
        *(f"  {line}" for line in reason + plan.notes),
        *(["chosen automatically:"] if plan.choices else []),
        *(f"  {choice}" for choice in plan.choices),
        f"run folder {run.path}",
    ]
    chosen = {f"  {choice}" for choice in plan.choices}
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True, style="dim" if line in chosen else None)


def _describe_outputs(predicted: str, class_names: list[str]) -> str:
    if predicted == "regression":
        return f"regression of {class_names[0]!r}"
    if predicted == "multilabel":
        return format_count(len(class_names), "label")
    if predicted == "pretrain":
        return "pretraining without labels"
    kind = {"detect": " of objects", "segment": " of label maps"}.get(predicted, "")
    return format_count(len(class_names), "class", "classes") + kind


def _run_name(config: TrainConfig) -> str:
    data = Path(config.data)
    return f"{safe_file_name(config.model)}-{data.resolve().name if data.exists() else config.data.replace('/', '-')}"
