"""The commands of ``transxnet``."""

from transxnet.cli.command import Command, Options
from transxnet.cli.info_and_bench import BenchCommand, InfoCommand
from transxnet.cli.parser import MODEL, Task
from transxnet.cli.training_commands import AblateCommand, TrainCommand

_IMAGES = "files, folders and globs"

_COMMANDS = (
    TrainCommand(
        name="train",
        synopsis="DATA",
        summary="learn to classify images, to find objects in them, or to label their pixels",
        usage="DATA [options]\n       transxnet train --resume RUN",
        description="Train a classifier, a detector or a segmenter on DATA and write a run folder with weights, "
        "figures and a report. What you leave open is chosen from the data and the hardware, and said.",
        function="transxnet.training.train:train",
        arguments={
            "data": dict(
                metavar="DATA",
                nargs="?",
                help="a folder with a folder of images for each class (or train/ and val/ of such), with annotations "
                "in the format of COCO or Pascal VOC, or with label maps beside photographs; a sample: elpv, digits, "
                "scenes; or a timm reader name, hfds/..., wds/... or tfds/...",
            ),
            "--resume": dict(metavar="RUN", help="resume an interrupted run"),
            "--overwrite": dict(action="store_true", help="write over the run in --out"),
            "--print_config": dict(action="store_true", help="print the options as YAML, a recipe, and stop"),
        },
    ),
    Command(
        name="eval",
        synopsis="RUN [DATA]",
        summary="metrics on the validation set or other labeled images",
        usage="RUN [DATA] [options]",
        description="How good is a trained model on images whose truth is known?",
        function="transxnet.evaluation.evaluate:evaluate",
        arguments={
            "model": dict(metavar="RUN", help=MODEL),
            "data": dict(
                metavar="DATA",
                nargs="?",
                help="images with labels, annotations or label maps, as the model needs; left out, or where it is "
                "what the run was trained on, the run's own validation set",
            ),
        },
        options=(Options(("file", "split", "batch_size", "workers", "out", "overwrite")),),
    ),
    Command(
        name="predict",
        synopsis="RUN IMAGE...",
        summary="what does it say about these images",
        usage="RUN IMAGE... [options]",
        description="What a trained model says about images: classes as CSV and JSON lines, or as Parquet for "
        "millions; boxes and masks in COCO's format of results, and drawn; label maps as indexed PNG, and drawn.",
        function="transxnet.prediction.predict:predict",
        arguments={
            "model": dict(metavar="RUN", help=f"{MODEL}; or an exported classifier"),
            "images": dict(
                metavar="IMAGE", nargs="+", help="files, folders, globs and WebDataset shards (.tar), any number"
            ),
        },
        options=(
            Options(("out", "top_k", "batch_size", "workers", "file", "overwrite")),
            Options(("embed", "rows_per_file", "ray"), "Parquet: --out NAME.parquet, or --rows_per_file"),
        ),
        option_words={"embed": "transxnet.prediction.predict_parquet:Embed"},
    ),
    Command(
        name="app",
        synopsis="RUN",
        summary="a page in the browser to try it on any picture",
        usage="RUN [options]",
        description="A page in the browser to try a trained model: send it a picture, see its answer and, by "
        "Grad-CAM, what speaks for it. It is for this machine alone, unless --host says otherwise.",
        function="transxnet.web.app:app",
        arguments={"run": dict(metavar="RUN", help=MODEL)},
        options=(Options(("file", "host", "port", "examples", "max_size")),),
    ),
    Command(
        name="export",
        synopsis="RUN",
        summary="a file that runs without this package: ONNX, OpenVINO, AOTInductor",
        usage="RUN [options]",
        description="A model as a file that runs without this package: ONNX, OpenVINO or AOTInductor. The file is "
        "checked against PyTorch on real images before it gets its name, and says what it takes, gives and was made "
        "from.",
        function="transxnet.deploy.export:export",
        arguments={"model": dict(metavar="RUN", help=MODEL + "; then, as of erf, @ with settings")},
        options=(
            Options(("format", "features", "size", "batch", "dynamic", "dtype", "with_preprocessing"), "what"),
            Options(("int8", "allow_accuracy_drop"), "quantisation"),
            Options(("data", "out", "file", "overwrite"), "check and result"),
        ),
    ),
    InfoCommand(
        name="info",
        synopsis="MODEL",
        summary="parameters, MACs, stages",
        usage="MODEL [options]",
        description="Parameters, MACs and stages of a model; or, with --task detect or segment, what a "
        "detector or segmenter on it takes, part by part.",
        function="transxnet.analysis.cost:info",
        arguments={
            "model": dict(metavar="MODEL", help="name of one of our models, or of timm's"),
            "--task": dict(type=Task, default="classify", help="what the model is to do"),
        },
        options=(
            Options(("img_size",), "classify"),
            Options(("head", "size", "num_classes"), "detect and segment", "transxnet.analysis.dense_cost:dense_info"),
        ),
        show="transxnet.analysis.cost:show",
    ),
    BenchCommand(
        name="bench",
        synopsis="MODEL...",
        summary="speed and memory, interleaved",
        usage="MODEL... [options]",
        description="How fast are models, and how much memory do they take? Each runs in a process of its own, in "
        "turns with the others, and is compared with the first.",
        function="transxnet.benchmark.bench:bench",
        arguments={
            "models": dict(
                metavar="MODEL",
                nargs="*",
                help="name of one of our models or timm's, or module:factory for your own. NAME@WORD,WORD changes "
                "settings for this model alone: eager, compile, channels_last, contiguous, reparameterize, original, "
                "autocast, cast, float32, bfloat16, float16, compile=MODE, and arguments of the model as name=value",
            )
        },
        options=(
            Options(("preset", "mode", "features", "size", "batch"), "what"),
            Options(("device", "dtype", "autocast", "channels_last", "compile", "reparameterize"), "how"),
            Options(("rounds", "seconds", "profile"), "measurement"),
            Options(("output", "overwrite"), "result"),
        ),
        option_words={"compile": "transxnet.benchmark.settings:COMPILE_MODES"},
        show="transxnet.benchmark.bench_report:show",
    ),
    Command(
        name="erf",
        synopsis="MODEL...",
        summary="effective receptive fields, side by side",
        usage="MODEL... --data IMAGES [options]",
        description="How far from its centre does an image still decide what a network sees there? The gradient of "
        "the features at the centre, averaged over images, side by side on one scale, with the radii that hold 20, 50 "
        "and 99% of it.",
        function="transxnet.analysis.erf:erf",
        arguments={
            "models": dict(
                metavar="MODEL",
                nargs="+",
                help="a run folder, or a model's name for its published weights. After @ come settings: file=PATH for "
                "weights on disk, untrained for random ones, arguments of the model as name=value. After a colon "
                "comes a place, by default the last stage: stage1 to stage4, idconv, osra or ste of the last D-Mixer, "
                "or a module's name",
            ),
            "--data": dict(metavar="IMAGES", nargs="+", required=True, help=f"{_IMAGES}, without labels"),
        },
        options=(Options(("images", "size", "batch_size", "out", "overwrite")),),
    ),
    Command(
        name="explain",
        synopsis="RUN IMAGE...",
        summary="which parts of an image speak for a class, by Grad-CAM",
        usage="RUN IMAGE... [options]",
        description="Which parts of images speak for a class? Grad-CAM at every stage and, in our networks, at both "
        "branches of the last D-Mixer and their fusion; of classifiers, detectors and segmenters.",
        function="transxnet.analysis.explain:explain",
        arguments={
            "model": dict(metavar="RUN", help=MODEL + "; then, as of erf, @ with settings and a colon a place"),
            "images": dict(metavar="IMAGE", nargs="+", help=f"{_IMAGES}, any number"),
        },
        options=(Options(("class_name", "out", "file", "overwrite")),),
    ),
    Command(
        name="dynamics",
        synopsis="RUN IMAGE...",
        summary="how far kernels and attention go by the input",
        usage="RUN IMAGE IMAGE... [options]",
        description="How far do a network's kernels and attention go by the input? IDConv's kernels and OSRA's "
        "attention for images side by side, and how much they vary in every D-Mixer, from 0 (static) to 1.",
        function="transxnet.analysis.dynamics:dynamics",
        arguments={
            "model": dict(metavar="RUN", help=MODEL + "; then, as of erf, @ with settings"),
            "images": dict(metavar="IMAGE", nargs="+", help=f"{_IMAGES}, two images or more"),
        },
        options=(Options(("out", "file", "overwrite")),),
    ),
    AblateCommand(
        name="ablate",
        synopsis="TABLE",
        summary="variants of a model, trained alike and put into one table",
        usage="TABLE --data DATA [options]\n       transxnet ablate --resume FOLDER",
        description="Train variants of a model under equal conditions, each a run folder, measure their speed and "
        "memory, and put them into one table: as Markdown, CSV, JSON and a page. Every option of a training is taken.",
        function="transxnet.ablation.ablate:ablate",
        arguments={
            "table": dict(metavar="TABLE", nargs="?", help="of the paper: table6, table7, table8, table9, table10"),
            "--data": dict(metavar="DATA", help="what to train on, as for transxnet train"),
            "--rows": dict(
                help="some of the rows by name, as in idconv,dyconv; a row of your own is an option of the model as in "
                "'idconv,kernel_sizes=(5,5,5,5)', several joined by +; by default all",
            ),
            "--seeds": dict(
                help="each row is trained once for each, as in 0,1,2; by default the recipe's, or 0; with --resume "
                "more",
            ),
        },
        options=(Options(("model", "out", "rounds", "resume"), "table"),),
        excluded=("seed", "out", "model"),
    ),
    Command(
        name="doctor",
        synopsis="",
        summary="this machine, and how fast operators are chosen on it",
        usage="[options]",
        description="What this machine has, which implementation each operator of a network would take on it, and why "
        "not the others. TRANSXNET_OPS=auto, triton, cpu or reference in the environment forces a choice.",
        function="transxnet.analysis.doctor:doctor",
        options=(Options(("model", "mode", "size", "batch", "dtype", "device")),),
        show="transxnet.analysis.doctor:show",
    ),
)

COMMANDS: dict[str, Command] = {command.name: command for command in _COMMANDS}
