"""An experiment whose runs have only a name."""

from dataclasses import dataclass
from typing import Any, ClassVar

from transxnet.experiments.experiment_folder import ExperimentFolder, PlannedRun
from transxnet.runs.run_folder import Run


@dataclass(frozen=True)
class SmallExperiment(ExperimentFolder):
    COMMAND: ClassVar[str] = "small"
    KIND: ClassVar[str] = "a small experiment"
    PLAN_FILE: ClassVar[str] = "small.yaml"

    names: tuple[str, ...]

    @property
    def planned_runs(self):
        return [PlannedRun(Run(self.path / name), f"run {name}", {"model": name}) for name in self.names]

    @classmethod
    def from_plain(cls, path, content: dict[str, Any]):
        return cls(path=path, names=tuple(content.pop("names")), **content)
