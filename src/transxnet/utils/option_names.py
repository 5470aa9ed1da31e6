"""Names of options: their spelling on the command line, and what other tools call them."""

import difflib
from collections.abc import Iterable, Mapping

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("learning_rate", "lr0", "base_lr"), ("lr",)),
    **dict.fromkeys(("optimizer", "optim", "solver"), ("opt",)),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpu", "ngpus", "nproc", "world_size"), ("devices", "device")),
    **dict.fromkeys(("gpu", "cuda", "cpu"), ("device",)),
    **dict.fromkeys(("nodes", "nnodes"), ("num_nodes",)),
    **dict.fromkeys(("imgsz", "image_size", "input_size", "resolution", "img"), ("img_size", "min_size")),
    **dict.fromkeys(("bs", "b", "batchsize", "train_batch_size", "per_device_train_batch_size"), ("batch_size",)),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs", "num_train_epochs"), ("epochs",)),
    **dict.fromkeys(("num_workers", "nw", "j", "threads"), ("workers",)),
    **dict.fromkeys(("output_dir", "outdir", "out_dir", "save_dir", "project", "name", "logdir"), ("out",)),
    **dict.fromkeys(("weights", "ckpt", "finetune", "init", "load_from"), ("checkpoint", "file")),
    **dict.fromkeys(("conf", "conf_thres", "threshold", "score_thr", "score_threshold"), ("min_score",)),
    **dict.fromkeys(("arch", "backbone", "model_name", "net"), ("model",)),
    **dict.fromkeys(("amp", "fp16", "half", "bf16"), ("precision", "dtype")),
    "wd": ("weight_decay",),
    "label_smoothing": ("smoothing",),
    "dropout": ("drop_rate",),
    "drop_path": ("drop_path_rate",),
    **dict.fromkeys(("grad_accum_steps", "gradient_accumulation_steps", "accumulate_grad_batches"), ("accumulate",)),
    **dict.fromkeys(("gradient_clip_val", "grad_clip", "max_grad_norm"), ("clip_grad",)),
    "gradient_checkpointing": ("grad_checkpointing",),
    **dict.fromkeys(("random_seed", "manual_seed", "random_state"), ("seed",)),
    **dict.fromkeys(("aa", "autoaugment"), ("auto_augment",)),
    **dict.fromkeys(("reprob", "erasing"), ("random_erasing",)),
    **dict.fromkeys(("cfg", "config"), ("recipe",)),
    **dict.fromkeys(("force", "exist_ok"), ("overwrite",)),
    **dict.fromkeys(("num_class", "nc", "nb_classes"), ("num_classes",)),
    **dict.fromkeys(("val_split_ratio", "validation_split", "test_size"), ("val_fraction",)),
}
"""Arguments as other tools call them, and ours: the first that is known is suggested."""


def as_option(name: str) -> str:
    """Return the option of an argument: ``--batch-size`` for ``batch_size``."""
    return "--" + name.replace("_", "-")


def option_words(name: str, value: object) -> list[str]:
    """Return an option and its value as words of a command line."""
    return [as_option(name), str(value).lower() if isinstance(value, bool) else str(value)]


def nearest_option(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean --...?`` with the option closest in meaning or spelling, or "" if none is close.

    Args:
        name: name as given, as an argument or as an option.
        known: names of the accepted arguments.
    """
    accepted = [word.lstrip("-").replace("-", "_") for word in known]
    plain = name.lstrip("-").replace("-", "_")
    close = difflib.get_close_matches(plain, [plain] * (plain in SYNONYMS) or [*accepted, *SYNONYMS], n=3, cutoff=0.7)
    meant = [next((word for word in SYNONYMS.get(found, (found,)) if word in accepted), None) for found in close]
    options = dict.fromkeys(as_option(word) for word in meant if word)
    return f" Did you mean {' or '.join(options)}?" if options else ""
