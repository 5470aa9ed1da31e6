"""The result of a benchmark: one row for each model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from transxnet.benchmark.operator_profile import Operator
from transxnet.benchmark.presets import PublishedAccuracy, PublishedSpeed
from transxnet.benchmark.settings import BenchmarkModel, Settings
from transxnet.benchmark.worker import Facts, Failure


@dataclass
class BenchmarkRow:
    """The measurements of one model.

    Attributes:
        model: the model and its settings.
        facts: parameters and MACs, or None if the model could not be created.
        iterations: steps in each round.
        milliseconds: time per batch in each round.
        peak_memory: bytes on the GPU, or of the whole process on the CPU.
        operators: the operators that take the most time, if profiled.
        failure: the error, or None.
    """

    model: BenchmarkModel
    facts: Facts | None = None
    iterations: int = 0
    milliseconds: list[float] = field(default_factory=list)
    peak_memory: int = 0
    operators: list[Operator] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def images_per_second(self) -> float:
        """Median throughput."""
        return self.model.settings.batch / median(self.milliseconds) * 1e3


@dataclass(frozen=True)
class Benchmark:
    """The result of a benchmark.

    Attributes:
        rows: one for each model, in the order given.
        settings: the settings of all models; a row may change some.
        rounds: number of rounds; in each, every model runs once.
        seconds: target length of a round.
        command: the command line of this benchmark.
        environment: versions, hardware, and settings that affect the results.
        note: source and limits of a preset.
        published: model name -> what the paper measured, for some models of a preset.
        accuracies: model name -> its published accuracy, for the models of a preset.
    """

    rows: list[BenchmarkRow]
    settings: Settings
    rounds: int
    seconds: float
    command: str
    environment: dict[str, str]
    note: str | None = None
    published: Mapping[str, PublishedSpeed] = field(default_factory=dict)
    accuracies: Mapping[str, PublishedAccuracy] = field(default_factory=dict)

    def published_speed(self, row: BenchmarkRow) -> PublishedSpeed | None:
        """What the paper measured for this model, unless the model has options of its own."""
        return None if row.model.arguments else self.published.get(row.model.name)

    def accuracy(self, row: BenchmarkRow) -> PublishedAccuracy | None:
        """The published accuracy of this model, if it was measured without options and at the same size."""
        found = None if row.model.arguments else self.accuracies.get(row.model.name)
        return found if found and row.model.settings.size == (found.size, found.size) else None

    def frontier(self) -> list[BenchmarkRow]:
        """The models that no other exceeds in both throughput and published accuracy, fastest first."""
        known = [(row, found.top1) for row in self.rows if not row.failure and (found := self.accuracy(row))]
        known.sort(key=lambda entry: (-entry[0].images_per_second, -entry[1]))
        best, kept = 0.0, []
        for row, top1 in known:
            if top1 > best:
                best = top1
                kept.append(row)
        return kept

    def speeds(self, row: BenchmarkRow) -> list[float]:
        """The speed relative to the first model, in each round; empty if either failed."""
        first = self.rows[0]
        if first.failure or row.failure:
            return []
        return [a / b for a, b in zip(first.milliseconds, row.milliseconds, strict=True)]
