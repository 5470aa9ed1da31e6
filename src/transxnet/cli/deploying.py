"""The command that takes a model out of PyTorch: ``export``."""

from collections.abc import Sequence

from transxnet.cli.parser import MODEL, Parser

_TOPICS = {
    "what": ("format", "features", "size", "batch", "dynamic", "dtype", "with_preprocessing"),
    "quantisation": ("int8", "allow_accuracy_drop"),
    "check and result": ("data", "out", "file", "overwrite"),
}


def export_parser() -> Parser:
    """The options of ``export``."""
    from transxnet.deploy.export import export

    parser = Parser(
        "export",
        "RUN [options]",
        "A model as a file that runs without this package: ONNX, OpenVINO or AOTInductor. The file is checked against "
        "PyTorch on real images before it gets its name, and says what it takes, gives and was made from.",
    )
    parser.add_argument("model", metavar="RUN", help=MODEL + "; then, as of erf, @ with settings")
    for title, names in _TOPICS.items():
        parser.add_options(export, names, title)
    return parser


def run_export(words: Sequence[str]) -> None:
    """``transxnet export``."""
    from transxnet.deploy.export import export

    export(**export_parser().parse_words(words))
