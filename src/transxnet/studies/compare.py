"""The command ``compare``: runs side by side, as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from transxnet.runs.run_folder import Run
from transxnet.studies.comparison_page import FILES, print_comparison, write_comparison
from transxnet.studies.paired_comparison import MIN_RESAMPLES, RESAMPLES
from transxnet.studies.run_comparison import RunComparison, compare_runs
from transxnet.utils.errors import check_at_least
from transxnet.utils.output_folder import output_folder
from transxnet.utils.progress import PLAIN


def compare(
    runs: Sequence[str | Path],
    *,
    split: Literal["validation", "test"] | None = None,
    metric: str | None = None,
    resamples: int = RESAMPLES,
    out: str | Path | None = "compare",
    overwrite: bool = False,
    console: Console | None = None,
) -> RunComparison:
    """Compare finished runs: the options that differ, metrics and curves, and paired intervals of classifiers.

    Args:
        runs: two or more run folders.
        split: set to compare on, validation or test; by default test if all runs have a test set.
        metric: metric that ranks classifiers of one class per image, as for ``study``; by default auroc for two
            classes, else accuracy.
        resamples: number of bootstrap resamples for the intervals.
        out: folder for the page; by default compare, or compare-2 and so on if it has results.
        overwrite: overwrite existing results.
        console: console to print to; by default standard output.

    Returns:
        The runs side by side.

    Raises:
        UserError: a run is not finished, or the runs predict different things.
    """
    console = console or Console()
    check_at_least(MIN_RESAMPLES, resamples=resamples)
    folder = None if out is None else output_folder(out, "compare", FILES, overwrite)
    comparison = compare_runs([Run.open(path) for path in runs], split, metric, resamples)
    print_comparison(comparison, console)
    if folder is not None:
        for path in write_comparison(comparison, folder):
            console.print(f"  {path}", **PLAIN)
    return comparison
