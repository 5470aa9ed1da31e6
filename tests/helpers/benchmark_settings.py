"""Settings of a small benchmark on the CPU, and its report as text."""

from rich.console import Console

from transxnet.benchmark.bench_report import show
from transxnet.benchmark.benchmark_result import Benchmark
from transxnet.benchmark.settings import Settings

SETTINGS = Settings(
    mode="infer",
    size=(32, 32),
    batch=2,
    dtype="float32",
    autocast=False,
    compile=None,
    channels_last=False,
    reparameterize=False,
    features=False,
    device="cpu",
)


def settings(**changes) -> Settings:
    return Settings(**{**vars(SETTINGS), **changes})


def shown_by(result: Benchmark, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(show(result), highlight=False)
    return capture.get()
