"""The commands of ``transxnet``."""

from typing import Literal

from transxnet.cli.command import Command, Options
from transxnet.cli.info_and_bench import BenchCommand, ExplainCommand, InfoCommand
from transxnet.cli.parser import MODEL, Task
from transxnet.cli.training_commands import TrainCommand, TrainingCommand

_IMAGES = "image files, folders and globs"
_TRAINING = ("recipe", "out", "resume", "epochs", "batch_size", "img_size", "device")
"""Options in the short help of all commands that train."""

_RUN = ("dry_run", "overwrite", "seed", "limit", "exclude", "model", "pretrained", "checkpoint", "lr")
"""Further ones of the commands that train one run."""

_RUN_ARGUMENTS = {
    "--resume": dict(metavar="RUN", help="resume an interrupted run"),
    "--overwrite": dict(action="store_true", help="overwrite the run in --out"),
    "--dry_run": dict(action="store_true", help="print what would be trained, run two steps, and write nothing"),
    "--print_config": dict(action="store_true", help="print the options as a YAML recipe and exit"),
}

_TOGETHER = ("parallel", "ray")
"""Options of the commands that train many runs."""

_SETTINGS = "Settings may follow after @, as in transxnet erf"

_COMMANDS = (
    TrainCommand(
        name="train",
        synopsis="DATA",
        summary="train a classifier, a detector or a segmenter",
        usage="DATA [options]\n       transxnet train --resume RUN",
        description="Train a classifier, a detector or a segmenter on DATA and write a run folder with weights, "
        "metrics and a report. Options that you do not set are chosen from the data and the hardware, and printed.",
        function="transxnet.training.train:train",
        common=(*_TRAINING, *_RUN),
        arguments={
            "data": dict(
                metavar="DATA",
                nargs="?",
                help="a folder with one folder of images per class (or train/ and val/ with such folders), with COCO "
                "or Pascal VOC annotations, or with images and label maps; a table of images and labels (.csv, .tsv, "
                ".jsonl, .parquet); a sample: elpv, digits or scenes; or a timm reader name: hfds/..., "
                "wds/... or tfds/...",
            ),
            **_RUN_ARGUMENTS,
        },
    ),
    TrainCommand(
        name="pretrain",
        synopsis="IMAGES",
        summary="pretrain a network on images without labels",
        usage="IMAGES [options]\n       transxnet pretrain --resume RUN",
        description="Pretrain a network on images without labels, or by imitating the features of a teacher, and write "
        "a run folder with weights and a report. Start other trainings from it: transxnet train DATA --checkpoint RUN. "
        "Options that you do not set are chosen from the data and the hardware, and printed.",
        function="transxnet.training.pretrain:pretrain",
        tasks=("pretrain",),
        common=(*_TRAINING, *_RUN, "method", "teacher"),
        arguments={
            "data": dict(
                metavar="IMAGES",
                nargs="?",
                help="a folder of images, also in folders below it; or DATA of transxnet train, whose labels are used "
                "only for the accuracy of the nearest neighbors in the report",
            ),
            **_RUN_ARGUMENTS,
        },
    ),
    Command(
        name="check",
        synopsis="DATA",
        summary="find duplicates, leaks and label errors in labeled data",
        usage="DATA [options]",
        description="Find problems in labeled data before training: unreadable images, exact and near duplicates, the "
        "same image or group in two sets, different labels of duplicates, class imbalance and suspicious boxes; with "
        "--model also likely label errors. Writes a page with thumbnails, a JSON file, and a table of images that "
        "transxnet train --exclude accepts.",
        function="transxnet.checking.check:check",
        arguments={"data": dict(metavar="DATA", help="labeled images in any format of transxnet train")},
        options=(
            Options(
                ("model", "folds", "task", "similarity", "group_from", "channels", "val_fraction", "seed", "device")
            ),
            Options(("out", "overwrite"), "output"),
        ),
    ),
    Command(
        name="eval",
        synopsis="RUN [DATA]",
        summary="compute metrics on the validation set or on other labeled images",
        usage="RUN [DATA] [options]",
        description="Evaluate a trained model on labeled images.",
        function="transxnet.evaluation.evaluate:evaluate",
        arguments={
            "model": dict(metavar="RUN", help=f"{MODEL}; or an exported file"),
            "data": dict(
                metavar="DATA",
                nargs="?",
                help="labeled images in any format of transxnet train; by default, and for the data that the run was "
                "trained on, the validation set of the run",
            ),
        },
        options=(
            Options(("file", "split", "image_folder", "tta", "batch_size", "workers", "device")),
            Options(("out", "report", "overwrite"), "output"),
            Options(("tile", "overlap"), "tiles, for detectors and segmenters"),
        ),
    ),
    Command(
        name="predict",
        synopsis="RUN IMAGE...",
        summary="predict classes, objects or label maps of images",
        usage="RUN IMAGE... [options]",
        description="Predict with a trained model. Classes are written as CSV and JSON Lines, or as Parquet for large "
        "data; boxes and masks in COCO's results format; label maps as indexed PNG. Boxes, masks and label maps are "
        "also drawn on the images.",
        function="transxnet.prediction.predict:predict",
        arguments={
            "model": dict(metavar="RUN", help=f"{MODEL}; or an exported file"),
            "images": dict(metavar="IMAGE", nargs="+", help="files, folders, globs and WebDataset shards (.tar)"),
        },
        options=(
            Options(
                ("out", "top_k", "min_score", "save_txt", "tta", "batch_size", "workers", "device", "file", "overwrite")
            ),
            Options(("tile", "overlap"), "tiles, for detectors and segmenters"),
            Options(("embed", "rows_per_file", "ray"), "Parquet output (with --out NAME.parquet or --rows-per-file)"),
        ),
        option_words={"embed": "transxnet.prediction.predict_parquet:Embed"},
    ),
    Command(
        name="app",
        synopsis="RUN",
        summary="serve a web page to try a model on your own images",
        usage="RUN [options]",
        description="Serve a web page to try a trained model: upload an image, and see the predictions and their "
        "Grad-CAM heat maps. Only this machine can open the page, unless --host allows others.",
        function="transxnet.web.app:app",
        arguments={"run": dict(metavar="RUN", help=MODEL)},
        options=(Options(("file", "host", "port", "device", "tta", "examples", "max_size")),),
    ),
    Command(
        name="export",
        synopsis="RUN",
        summary="export a model to ONNX, OpenVINO, AOTInductor or a web page",
        usage="RUN [options]",
        description="Export a model to a file that runs without this package: ONNX, OpenVINO, AOTInductor, ExecuTorch "
        "or ncnn, or to a web page. The outputs are compared with PyTorch's on real images before the file is saved. "
        "The file contains metadata: its inputs, its outputs and the model it was exported from.",
        function="transxnet.deploy.export:export",
        arguments={"model": dict(metavar="RUN", help=f"{MODEL}. {_SETTINGS}")},
        options=(
            Options(("format", "dtype", "features", "end_to_end"), "format"),
            Options(("img_size", "batch_size", "dynamic", "with_preprocessing"), "inputs"),
            Options(("int8", "allow_accuracy_drop"), "quantization"),
            Options(("data", "out", "file", "overwrite"), "verification and output"),
        ),
        renamed={"size": "img_size", "batch": "batch_size"},
    ),
    Command(
        name="verify",
        synopsis="FILE",
        summary="check an exported file on this machine",
        usage="FILE",
        description="Run an exported file in its runtime on the image that export stored in it, compare the outputs "
        "with those of the trained model, and print the latency.",
        function="transxnet.deploy.verify_file:verify",
        arguments={"file": dict(metavar="FILE", help="an exported file: .onnx, .xml, .pt2, .pte or .ncnn.param")},
    ),
    Command(
        name="push",
        synopsis="RUN REPO",
        summary="upload a run to the Hugging Face Hub",
        usage="RUN REPO [options]",
        description="Upload the weights, the model card and the results of a finished run to a model repository of "
        "the Hugging Face Hub, which is created if it does not exist. Log in first: hf auth login",
        function="transxnet.deploy.push:push",
        arguments={
            "run": dict(metavar="RUN", help="run folder"),
            "repo": dict(metavar="REPO", help="name of the repository, as OWNER/NAME"),
        },
        options=(Options(("public",)),),
    ),
    InfoCommand(
        name="info",
        synopsis="MODEL",
        summary="print parameters, MACs and stages of a model",
        usage="MODEL [options]",
        description="Print the parameters, MACs and stages of a model. With --task detect or segment, print the cost "
        "of a detector or segmenter with this backbone, part by part.",
        function="transxnet.analysis.cost:info",
        arguments={
            "model": dict(metavar="MODEL", help="name of a TransXNet model or of any timm model"),
            "--task": dict(type=Task, default="classify", help="task of the model"),
        },
        options=(
            Options(("img_size",)),
            Options(
                ("head", "num_classes"),
                "detection and segmentation options",
                "transxnet.analysis.dense_cost:dense_info",
            ),
        ),
        renamed={"size": "img_size"},
        show="transxnet.analysis.cost:show",
    ),
    BenchCommand(
        name="bench",
        synopsis="MODEL...",
        summary="compare the speed and memory of models",
        usage="MODEL... [options]",
        description="Measure the speed and memory of models. Each model runs in its own process, interleaved with the "
        "others, and is compared with the first.",
        function="transxnet.benchmark.bench:bench",
        arguments={
            "models": dict(
                metavar="MODEL",
                nargs="*",
                help="name of a TransXNet model or of any timm model, or module:factory for your own. "
                "NAME@SETTING,SETTING changes settings of this model only: eager, compile, channels_last, contiguous, "
                "reparameterize, original, autocast, cast, float32, bfloat16, float16, compile=MODE, and model "
                "arguments as name=value",
            )
        },
        options=(
            Options(("preset", "mode", "features", "img_size", "batch_size"), "models and inputs"),
            Options(("device", "dtype", "autocast", "channels_last", "compile", "reparameterize"), "execution"),
            Options(("rounds", "seconds", "profile"), "measurement"),
            Options(("out", "overwrite"), "output"),
        ),
        option_words={"compile": "transxnet.benchmark.settings:COMPILE_MODES"},
        renamed={"size": "img_size", "batch": "batch_size", "output": "out"},
        show="transxnet.benchmark.bench_report:show",
    ),
    Command(
        name="erf",
        synopsis="MODEL...",
        summary="compare effective receptive fields",
        usage="MODEL... --data IMAGES [options]\n       transxnet erf --preset PRESET --data IMAGES [options]",
        description="Compute effective receptive fields: the gradient of the central feature with respect to the "
        "image, averaged over images. The models are drawn side by side on one color scale, with the radii that "
        "contain 20, 50 and 99% of the gradient.",
        function="transxnet.analysis.erf:erf",
        arguments={
            "models": dict(
                metavar="MODEL",
                nargs="*",
                help="a run folder, or a model name for its published weights. Settings may follow after @: file=PATH "
                "(weights on disk), untrained (random weights), and model arguments as name=value. The part to "
                "analyze may follow after a colon: stage1 to stage4, idconv, osra or ste of the last D-Mixer, or a "
                "module name; by default the last stage",
            ),
            "--data": dict(metavar="IMAGES", nargs="+", required=True, help=f"{_IMAGES}; labels are not used"),
        },
        options=(Options(("preset", "images", "img_size", "batch_size", "device", "out", "overwrite")),),
        renamed={"size": "img_size"},
    ),
    ExplainCommand(
        name="explain",
        synopsis="RUN IMAGE...",
        summary="draw Grad-CAM heat maps for a class",
        usage="RUN IMAGE... [options]\n       transxnet explain --preset PRESET [MODEL...] IMAGE... [options]",
        description="Draw Grad-CAM heat maps of a classifier, detector or segmenter: at every stage and, in TransXNet "
        "models, at both branches of the last D-Mixer and their fusion.",
        function="transxnet.analysis.explain:explain",
        arguments={
            "model": dict(metavar="RUN", help=f"{MODEL}. {_SETTINGS}; the part to analyze may follow after a colon"),
            "images": dict(metavar="IMAGE", nargs="*", help=_IMAGES),
        },
        options=(Options(("class_name", "preset", "device", "out", "file", "overwrite")),),
    ),
    Command(
        name="dynamics",
        synopsis="RUN IMAGE...",
        summary="measure how kernels and attention vary with the input",
        usage="RUN IMAGE IMAGE... [options]",
        description="Measure how much IDConv's kernels and OSRA's attention depend on the input: their variation over "
        "images in every D-Mixer, from 0 (static) to 1, and drawings for the images side by side.",
        function="transxnet.analysis.dynamics:dynamics",
        arguments={
            "model": dict(metavar="RUN", help=f"{MODEL}. {_SETTINGS}"),
            "images": dict(metavar="IMAGE", nargs="+", help=f"{_IMAGES}; at least two images"),
        },
        options=(Options(("device", "out", "file", "overwrite")),),
    ),
    Command(
        name="layouts",
        synopsis="",
        summary="show the accepted layouts of DATA",
        usage="",
        description="Show the folder layouts and names that commands accept as DATA.",
        function="transxnet.data.layouts:layouts",
        show="transxnet.data.layouts:show",
    ),
    Command(
        name="completion",
        synopsis="SHELL",
        summary="print a script that completes commands and options in a shell",
        usage="SHELL",
        description="Print a script that completes commands, options and file names in a shell. For bash: "
        "transxnet completion bash > ~/.local/share/bash-completion/completions/transxnet",
        function="transxnet.cli.completion:completion",
        arguments={"shell": dict(metavar="SHELL", type=Literal["bash", "zsh", "tcsh"], help="bash, zsh or tcsh")},
    ),
    Command(
        name="compare",
        synopsis="RUN RUN...",
        summary="compare finished runs side by side",
        usage="RUN RUN... [options]",
        description="Compare finished runs side by side: the options that differ, metrics and curves. Classifiers that "
        "were evaluated on the same images also get confidence intervals and paired tests. Writes a page and a JSON "
        "file.",
        function="transxnet.studies.compare:compare",
        arguments={"runs": dict(metavar="RUN", nargs="+", help="run folders")},
        options=(Options(("split", "metric", "resamples", "out", "overwrite")),),
    ),
    TrainingCommand(
        name="study",
        synopsis="DATA",
        summary="compare models by cross-validation, with intervals and tests",
        usage="DATA --models MODEL... [options]\n       transxnet study --resume FOLDER",
        description="Compare classifiers, detectors or segmenters on the same folds and seeds: metrics with bootstrap "
        "intervals, calibration, and paired tests, as an HTML page, CSV, JSON and a LaTeX table. The outer fold of a "
        "run is only evaluated; a part of the other images chooses the epoch, and for classifiers threshold and "
        "temperature. Each arm, fold and seed has its own run folder. All options of transxnet train are accepted.",
        function="transxnet.studies.study:study",
        arguments={
            "data": dict(
                metavar="DATA",
                nargs="?",
                help="training data with one class per image, boxes or label maps, as for transxnet train, without a "
                "validation set of its own",
            ),
            "--models": dict(metavar="MODEL", nargs="+", help="models to compare; each is an arm of the study"),
        },
        options=(
            Options(("arms", "folds", "seeds", "metric", "test", "resamples", "out", "resume"), "study"),
            Options(_TOGETHER, "runs at the same time"),
        ),
        excluded=("out", "model", "split_file"),
        common=(*_TRAINING, *_TOGETHER, "models", "arms", "folds", "seeds", "metric", "positive", "test", "group_from"),
    ),
    TrainingCommand(
        name="ablate",
        synopsis="TABLE",
        summary="train variants of a model and compare them in one table",
        usage="TABLE --data DATA [options]\n       transxnet ablate --resume FOLDER",
        description="Train variants of a model under equal conditions, measure their speed and memory, and write one "
        "table as Markdown, CSV, JSON and an HTML report. Each variant has its own run folder. All options of "
        "transxnet train are accepted.",
        function="transxnet.ablation.ablate:ablate",
        arguments={
            "table": dict(
                metavar="TABLE", nargs="?", help="a table of the paper: table6, table7, table8, table9, table10"
            ),
            "--data": dict(metavar="DATA", help="training data, as for transxnet train"),
            "--rows": dict(
                help="names of rows, as in idconv,dyconv; your own rows are model options joined by +, as in "
                "'idconv,kernel_sizes=(5,5,5,5)'; by default all rows of the table",
            ),
            "--seeds": dict(
                help="random seeds, as in 0,1,2; each row is trained once per seed; by default the recipe's seed, or "
                "0. With --resume, additional seeds",
            ),
        },
        options=(
            Options(("model", "out", "rounds", "resume"), "table"),
            Options(_TOGETHER, "runs at the same time"),
        ),
        leading=("table", "data"),
        excluded=("seed", "out", "model"),
        common=(*_TRAINING, *_TOGETHER, "data", "rows", "seeds", "model"),
    ),
    Command(
        name="doctor",
        synopsis="",
        summary="show this machine and the operator implementations chosen on it",
        usage="[options]",
        description="Show the hardware and software of this machine, the implementation chosen for each operator of a "
        "network, and why the others were not chosen. On a GPU, the faster correct implementation is chosen, by "
        "measurement at its first use; --measure does it for all shapes of a model. The environment variable "
        "TRANSXNET_OPS (auto, triton, c, cpu or reference) forces an implementation.",
        function="transxnet.analysis.doctor:doctor",
        options=(Options(("model", "mode", "img_size", "batch_size", "dtype", "device", "measure")),),
        renamed={"size": "img_size", "batch": "batch_size"},
        show="transxnet.analysis.doctor:show",
    ),
)

COMMANDS: dict[str, Command] = {command.name: command for command in _COMMANDS}
