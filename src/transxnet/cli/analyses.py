"""The commands that look into a network: ``erf``, ``explain`` and ``dynamics``."""

from collections.abc import Sequence

from transxnet.cli.parser import MODEL, Parser


def erf_parser() -> Parser:
    """The options of ``erf``."""
    from transxnet.analysis.erf import erf

    parser = Parser(
        "erf",
        "MODEL... --data IMAGES [options]",
        "How far from its centre does an image still decide what a network sees there? The gradient of the features at "
        "the centre, averaged over images, side by side on one scale, with the radii that hold 20, 50 and 99% of it.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="a run folder, or a model's name for its published weights. After @ come settings: file=PATH for weights "
        "on disk, untrained for random ones, arguments of the model as name=value. After a colon comes a place, by "
        "default the last stage: stage1 to stage4, idconv, osra or ste of the last D-Mixer, or a module's name",
    )
    parser.add_argument(
        "--data", metavar="IMAGES", nargs="+", required=True, help="files, folders and globs, without labels"
    )
    parser.add_options(erf, ("images", "size", "batch_size", "out", "overwrite"))
    return parser


def run_erf(words: Sequence[str]) -> None:
    """``transxnet erf``."""
    from transxnet.analysis.erf import erf

    erf(**erf_parser().parse_words(words))


def explain_parser() -> Parser:
    """The options of ``explain``."""
    from transxnet.analysis.explain import explain

    parser = Parser(
        "explain",
        "RUN IMAGE... [options]",
        "Which parts of images speak for a class? Grad-CAM at every stage and, in our networks, at both branches of "
        "the last D-Mixer and their fusion; of classifiers, detectors and segmenters.",
    )
    parser.add_argument("model", metavar="RUN", help=MODEL + "; then, as of erf, @ with settings and a colon a place")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders and globs, any number")
    parser.add_options(explain, ("class_name", "out", "file", "overwrite"))
    return parser


def run_explain(words: Sequence[str]) -> None:
    """``transxnet explain``."""
    from transxnet.analysis.explain import explain

    explain(**explain_parser().parse_words(words))


def dynamics_parser() -> Parser:
    """The options of ``dynamics``."""
    from transxnet.analysis.dynamics import dynamics

    parser = Parser(
        "dynamics",
        "RUN IMAGE IMAGE... [options]",
        "How far do a network's kernels and attention go by the input? IDConv's kernels and OSRA's attention for "
        "images side by side, and how much they vary in every D-Mixer, from 0 (static) to 1.",
    )
    parser.add_argument("model", metavar="RUN", help=MODEL + "; then, as of erf, @ with settings")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders and globs, two images or more")
    parser.add_options(dynamics, ("out", "file", "overwrite"))
    return parser


def run_dynamics(words: Sequence[str]) -> None:
    """``transxnet dynamics``."""
    from transxnet.analysis.dynamics import dynamics

    dynamics(**dynamics_parser().parse_words(words))
