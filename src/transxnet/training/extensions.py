"""Objects of the caller that take part in a training and are not stored in the run folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import isroutine
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from PIL import Image
from torch import Tensor, nn

from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError

_NOT_STORED = "not stored in the run folder, pass again to resume: "


@dataclass(frozen=True)
class Extensions:
    """Objects of the caller.

    Attributes:
        callbacks: Lightning callbacks.
        loggers: Lightning loggers.
        loss: called with logits and targets.
        train_transform: transform of training images.
        dataset: images and classes, or a pair of them for training and validation.
    """

    callbacks: Sequence[Callback] = ()
    loggers: Sequence[Logger] = ()
    loss: nn.Module | None = None
    train_transform: Callable[[Image.Image], Tensor] | None = None
    dataset: Any = None

    @property
    def required(self) -> dict[str, str]:
        """Names of the objects without which the training would be another one, by argument."""
        arguments = {"loss": self.loss, "train_transform": self.train_transform, "dataset": self.dataset}
        return {argument: name_of(given) for argument, given in arguments.items() if given is not None}

    def notes(self) -> list[str]:
        """Name the objects, for the run's notes."""
        optional = ", ".join(name_of(extension) for extension in (*self.callbacks, *self.loggers))
        required = [f"{argument} {name}" for argument, name in self.required.items()]
        return [_NOT_STORED + names for names in (*required, optional) if names]

    def check_task(self, task: str) -> None:
        """Raise UserError if one of the objects is not for the task."""
        if self.required and task != "classify":
            raise UserError(f"{', '.join(self.required)}: accepted only for task 'classify', got task {task!r}.")

    def check_resumed(self, run: Run) -> None:
        """Check that a run is resumed with the objects that it was started with.

        Raises:
            UserError: one of them is missing or new.
        """
        notes = [note.removeprefix(_NOT_STORED) for note in run.read_environment()["choices"] if _NOT_STORED in note]
        for argument in ("loss", "train_transform", "dataset"):
            stored = next((note for note in notes if note.startswith(f"{argument} ")), None)
            if stored is not None and argument not in self.required:
                raise UserError(
                    f"the run was started with {stored}, which is not stored in the run folder. Resume it in Python: "
                    f"transxnet.train(resume={str(run.path)!r}, {argument}=...)."
                )
            if stored is None and argument in self.required:
                raise UserError(f"the run was started without {argument}. Remove {argument} to resume it.")


NO_EXTENSIONS = Extensions()


def name_of(extension: Any) -> str:
    """Return the name of a function, or of an object's class; of a pair, that of its first part."""
    if isinstance(extension, tuple):
        return name_of(extension[0])
    return (extension if isroutine(extension) else type(extension)).__name__
