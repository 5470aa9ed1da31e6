"""The commands that use what was trained: ``eval``, ``predict`` and ``app``."""

from collections.abc import Sequence
from typing import get_args

from transxnet.cli.parser import MODEL, SWITCH, Parser


def eval_parser() -> Parser:
    """The options of ``eval``."""
    from transxnet.evaluation.evaluate import evaluate

    parser = Parser("eval", "RUN [DATA] [options]", "How good is a trained model on images whose truth is known?")
    parser.add_argument("model", metavar="RUN", help=MODEL)
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="images with labels, annotations or label maps, as the model needs; left out, or where it is what the run "
        "was trained on, the run's own held-out images",
    )
    parser.add_options(evaluate, ("file", "split", "batch_size", "workers", "out", "overwrite"))
    return parser


def run_eval(words: Sequence[str]) -> None:
    """``transxnet eval``."""
    from transxnet.evaluation.evaluate import evaluate

    evaluate(**eval_parser().parse_words(words))


def predict_parser() -> Parser:
    """The options of ``predict``."""
    from transxnet.prediction.predict import predict
    from transxnet.prediction.predict_parquet import Embed

    parser = Parser(
        "predict",
        "RUN IMAGE... [options]",
        "What a trained model says about images: classes as CSV and JSON lines, or as Parquet for millions; boxes "
        "and masks in COCO's format of results, and drawn; label maps as indexed PNG, and drawn.",
    )
    parser.add_argument("model", metavar="RUN", help=f"{MODEL}; or an exported classifier")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="files, folders, globs and WebDataset shards (.tar), any number"
    )
    parser.add_options(predict, ("out", "top_k", "batch_size", "workers", "file", "overwrite"))
    parser.flags["embed"] = (*SWITCH, *get_args(Embed))
    parser.add_options(predict, ("embed", "rows_per_file", "ray"), "Parquet: --out NAME.parquet, or --rows_per_file")
    return parser


def run_predict(words: Sequence[str]) -> None:
    """``transxnet predict``."""
    from transxnet.prediction.predict import predict

    predict(**predict_parser().parse_words(words))


def app_parser() -> Parser:
    """The options of ``app``."""
    from transxnet.web.app import app

    parser = Parser(
        "app",
        "RUN [options]",
        "A page in the browser to try a trained model: send it a picture, see its answer and, by Grad-CAM, what speaks "
        "for it. It is for this machine alone, unless --host says otherwise.",
    )
    parser.add_argument("run", metavar="RUN", help=MODEL)
    parser.add_options(app, ("file", "host", "port", "examples", "max_size"))
    return parser


def run_app(words: Sequence[str]) -> None:
    """``transxnet app``."""
    from transxnet.web.app import app

    app(**app_parser().parse_words(words))
