"""The commands that measure: ``info``, ``bench`` and ``doctor``."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from transxnet.cli.parser import SWITCH, Parser, Task
from transxnet.utils.errors import UserError

_BENCH_TOPICS = {
    "what": ("preset", "mode", "features", "size", "batch"),
    "how": ("device", "dtype", "autocast", "channels_last", "compile", "reparameterize"),
    "measurement": ("rounds", "seconds", "profile"),
    "result": ("output", "overwrite"),
}


def info_parser() -> Parser:
    """The options of ``info``."""
    from transxnet.analysis.cost import info
    from transxnet.analysis.dense_cost import dense_info

    parser = Parser(
        "info",
        "MODEL [options]",
        "Parameters, multiply-adds and stages of a model; or, with --task detect or segment, what a detector or "
        "segmenter on it takes, part by part.",
    )
    parser.add_argument("model", metavar="MODEL", help="name of one of our models, or of timm's")
    parser.add_argument("--task", type=Task, default="classify", help="what the model is to do")
    parser.add_options(info, ("img_size",), "classify")
    parser.add_options(dense_info, ("head", "size", "num_classes"), "detect and segment")
    return parser


def run_info(words: Sequence[str]) -> None:
    """``transxnet info``."""
    from transxnet.analysis.cost import info
    from transxnet.analysis.dense_cost import dense_info, show

    given, console = info_parser().parse_words(words), Console()
    task, own = given.pop("task"), ("img_size",)
    strangers = [name for name in given if name != "model" and (name in own) != (task == "classify")]
    if wrong := [f"--{name}" for name in strangers if given.pop(name) is not None]:
        raise UserError(f"{', '.join(wrong)} does not go with --task {task}. See: transxnet info --help")
    if task != "classify":
        console.print(show(dense_info(task=task, **given)), highlight=False)
        return
    facts = info(**given)
    size = f"{facts.img_size}x{facts.img_size}"
    console.print(f"[bold]{facts.name}[/bold]", highlight=False)
    for name, value in {
        "parameters": f"{facts.cost.parameters:,}",
        f"multiply-adds at {size}": f"{facts.cost.multiply_adds / 1e9:.2f} G in convolutions and linear layers",
        "": f"{facts.cost.attention_multiply_adds / 1e9:.2f} G more in attention products",
        "classes": f"{facts.num_classes:,}",
        "preprocessing": f"{facts.interpolation}, crop {facts.crop_pct:g}",
        "published weights": ", ".join(facts.weights) or "none",
    }.items():
        console.print(f"  {name:<28}{value}", highlight=False, soft_wrap=True)
    if facts.stages:
        table = Table(
            "stage", "channels", "reduction", f"output at {size}", box=None, pad_edge=False, padding=(0, 3, 0, 2)
        )
        for stage in facts.stages:
            table.add_row(stage.name, str(stage.channels), str(stage.reduction), f"{stage.size[0]}x{stage.size[1]}")
        console.print(table)


def bench_parser() -> Parser:
    """The options of ``bench``."""
    from transxnet.benchmark.bench import bench
    from transxnet.benchmark.settings import COMPILE_MODES, WORDS

    parser = Parser(
        "bench",
        "MODEL... [options]",
        "How fast are models, and how much memory do they take? Each runs in a process of its own, in turns with the "
        "others, and is compared with the first.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="name of one of our models or timm's, or module:factory for your own. NAME@WORD,WORD changes settings for "
        f"this model alone: {', '.join(WORDS)}, compile=MODE, and arguments of the model as name=value",
    )
    parser.flags["compile"] = (*SWITCH, *COMPILE_MODES)
    for title, names in _BENCH_TOPICS.items():
        parser.add_options(bench, names, title)
    return parser


def run_bench(words: Sequence[str]) -> None:
    """``transxnet bench``."""
    from transxnet.benchmark.bench import bench
    from transxnet.benchmark.bench_report import show

    result = bench(**bench_parser().parse_words(words))
    Console().print(show(result), highlight=False)
    if all(row.failure for row in result.rows):
        raise UserError("none of the models could be measured.")


def doctor_parser() -> Parser:
    """The options of ``doctor``."""
    from transxnet.analysis.doctor import doctor

    parser = Parser(
        "doctor",
        "[options]",
        "What this machine has, which implementation each operator of a network would take on it, and why not the "
        "others. TRANSXNET_OPS=auto, triton, cpu or reference in the environment forces a choice.",
    )
    parser.add_options(doctor, ("model", "mode", "size", "batch", "dtype", "device"))
    return parser


def run_doctor(words: Sequence[str]) -> None:
    """``transxnet doctor``."""
    from transxnet.analysis.doctor import doctor, show

    Console().print(show(doctor(**doctor_parser().parse_words(words))), highlight=False)
