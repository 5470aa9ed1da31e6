"""The folder of an ablation: its settings, and a run folder for each row and seed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from transxnet.ablation.paper_tables import Ablation, Variant
from transxnet.models.model_spec import with_options
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError
from transxnet.utils.files import safe_file_name, write_atomic
from transxnet.utils.text_files import read_yaml

PLAN_FILE = "ablation.yaml"


@dataclass(frozen=True)
class AblationFolder:
    """The settings of an ablation, and its folder.

    Attributes:
        path: path of the folder.
        ablation: the rows, and the model that they are variants of.
        seeds: random seeds; each row is trained once per seed.
        rounds: rounds of the benchmark of speed and memory; 0 skips it.
        options: options of all runs, including ``task`` and ``data``, without ``model``, ``seed`` and ``out``.
        command: shell command that repeats this ablation.
    """

    path: Path
    ablation: Ablation
    seeds: tuple[int, ...]
    rounds: int
    options: dict[str, Any]
    command: str

    def model(self, variant: Variant) -> str:
        """Return the name of a row's model, with its options."""
        return with_options(self.ablation.model, variant.options)

    def run(self, variant: Variant, seed: int) -> Run:
        """Return the run folder of a row and seed, which may not exist yet."""
        return Run(self.path / f"{variant.name}-seed{seed}")

    def finished(self, variant: Variant, seed: int) -> bool:
        """Return whether the run of a row and seed is finished: the report is written last."""
        return self.run(variant, seed).report_file.is_file()

    def num_finished(self) -> int:
        """Number of finished runs."""
        return sum(self.finished(variant, seed) for variant in self.ablation.variants for seed in self.seeds)

    @property
    def num_runs(self) -> int:
        """Number of runs: rows times seeds."""
        return len(self.seeds) * len(self.ablation.variants)

    def write(self) -> None:
        """Write the settings."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        plain = json.loads(json.dumps(content))  # tuples become lists, which are readable in YAML
        write_atomic(self.path / PLAN_FILE, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))

    @classmethod
    def read(cls, path: str | Path) -> "AblationFolder":
        """Read the settings of a folder.

        Raises:
            UserError: the path is not the folder of an ablation, or its file is damaged.
        """
        path = Path(path)
        file = path / PLAN_FILE
        if not file.is_file():
            raise UserError(f"{path} is not the folder of an ablation: {PLAN_FILE} is missing.")
        try:
            content = read_yaml(file)
            table = content.pop("ablation")
            rows = [Variant(**{**row, "quotes": tuple(row["quotes"])}) for row in table.pop("variants")]
            seeds = tuple(content.pop("seeds"))
            for name in (f"{row.name}-seed{seed}" for row in rows for seed in seeds):
                if safe_file_name(name) != name:  # the runs of the row are written there
                    raise ValueError(f"{name!r} is not a valid name of a run folder")
            return cls(path=path, ablation=Ablation(**table, variants=tuple(rows)), seeds=seeds, **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{file} is damaged or not part of an ablation: {error}") from error
