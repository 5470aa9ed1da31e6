"""Model arguments: ``NAME.TAG@SETTING,OPTION=VALUE:PART``, a run folder, or a file."""

import ast
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transxnet.utils.errors import UserError, nearest

LOADING = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path", "cache_dir"}
)
"""Arguments of ``timm.create_model`` that choose the files to open. A name may come from an untrusted recipe or run, so
it never sets them: some versions of timm execute code from a ``checkpoint_path`` file."""

VALUE_SETTINGS = {"file": "PATH", "compile": "MODE", "size": "PIXELS"}
"""Settings that take a value. Every other ``name=value`` is an option of the model."""


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model argument, created by :func:`parse_model_name` or :func:`parse_model_spec`.

    Attributes:
        text: the argument as given.
        architecture: the name in timm's registry, such as "transxnet_b".
        tag: tag of published weights, such as "in1k_384", or empty.
        options: keyword arguments of the model.
        options_text: the options as given, "dpe=false,attn_ratio=0.25".
        settings: words after @ that are not options of the model, with values for those of ``VALUE_SETTINGS``.
        part: the text after the colon, such as "stage4", or empty.
        path: an existing run folder or file, instead of a name.
    """

    text: str
    architecture: str = ""
    tag: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    options_text: str = ""
    settings: dict[str, str | None] = field(default_factory=dict)
    part: str = ""
    path: Path | None = None

    @property
    def name(self) -> str:
        """The architecture with its tag."""
        return f"{self.architecture}.{self.tag}" if self.tag else self.architecture

    @property
    def untagged_name(self) -> str:
        """The architecture with its options: "transxnet_b@dpe=false"."""
        return with_options(self.architecture, self.options_text)

    @property
    def label(self) -> str:
        """The name for tables and figures: "transxnet_b (dpe=False)"; or the path."""
        shown = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return str(self.path) if self.path else f"{self.name} ({shown})" if shown else self.name

    @property
    def is_transxnet(self) -> bool:
        """Whether the architecture is one of this package."""
        return self.architecture.startswith("transxnet_")

    @property
    def file(self) -> str | None:
        """Weights on disk, for a model given by name."""
        return self.settings.get("file")

    @property
    def untrained(self) -> bool:
        """Whether random weights are requested."""
        return "untrained" in self.settings

    def check_settings(self, accepted: Collection[str] = (), part: bool = False) -> None:
        """Raise UserError for settings, or a part, that the caller does not use.

        Args:
            accepted: accepted settings.
            part: whether a part is accepted.
        """
        options = "model options as name=value, separated by commas"
        for word in self.settings:
            if word in accepted:
                continue
            if not accepted:
                raise UserError(f"{self.text!r}: unexpected {word!r} after @. Accepted: {options}.")
            known = [f"{name}={VALUE_SETTINGS[name]}" if name in VALUE_SETTINGS else name for name in accepted]
            raise UserError(
                f"{self.text!r}: unknown setting {word!r}.{nearest(word, known)} Accepted after @: {', '.join(known)}, "
                f"and {options}."
            )
        if self.part and not part:
            raise UserError(
                f"{self.text!r} selects part {self.part!r}, but the whole model is needed. Remove the colon and the "
                "part."
            )


def parse_model_name(text: str) -> ModelSpec:
    """Parse the name of a model, without reading files.

    Option values are Python literals, true, false, or text: ``NAME@compile,ffn_scales=(1,3),dpe=false`` has the
    options ``{"ffn_scales": (1, 3), "dpe": False}`` and the setting ``compile``.

    Raises:
        UserError: an option or setting is given twice, or an option would choose files.
    """
    name, colon, part = text.rpartition(":")
    if not colon:
        name, part = text, ""
    elif "@" in part:  # MODULE:FACTORY@SETTING
        part, at, suffix = part.partition("@")
        name += at + suffix
    name, _, suffix = name.partition("@")
    architecture, _, tag = (name, "", "") if "/" in name else name.partition(".")
    options: dict[str, Any] = {}
    settings: dict[str, str | None] = {}
    texts = []
    for word in filter(None, re.split(r",(?![^(\[]*[)\]])", suffix)):  # not at commas inside a tuple
        key, equals, value = word.partition("=")
        if key in options or key in settings:
            raise UserError(f"{text!r} sets {key} twice.")
        if not equals:
            settings[key.replace("-", "_")] = None
        elif key in VALUE_SETTINGS:
            settings[key] = value
        else:
            options[key] = _option_value(value)
            texts.append(word)
    check_options(text, options)
    return ModelSpec(text, architecture, tag, options, ",".join(texts), settings, part)


def parse_model_spec(text: str | Path, file: str | Path | None = None) -> ModelSpec:
    """Parse a run folder, a file, or the name of a model; a run folder may also have a part after a colon.

    Args:
        text: an existing path, or a name.
        file: weights on disk for a model given by name, instead of ``@file=PATH``.

    Raises:
        UserError: as :func:`parse_model_name`, or weights are given twice.
    """
    text = str(text)
    folder, _, part = text.rpartition(":")
    found = (text, "") if os.path.exists(text) else (folder, part) if os.path.isdir(folder) else None
    if found:
        path = Path(found[0])
        if file is not None and path.is_dir():
            raise UserError(f"{path} is a run folder, which contains its weights. Remove --file.")
        return ModelSpec(text, part=found[1], path=path)
    spec = parse_model_name(text)
    if file is not None:
        if spec.file is not None:
            raise UserError(f"weights given twice: {spec.file} in {text!r} and --file {file}. Remove one of them.")
        spec = replace(spec, settings=spec.settings | {"file": str(file)})
    return spec


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise UserError if an option chooses the files to open; options may come from an untrusted run."""
    if loading := sorted(LOADING.intersection(options)):
        raise UserError(
            f"{name}: {loading[0]} selects weights and is not accepted as a model option. Use --pretrained, "
            "--checkpoint or --file, or pass it as an argument."
        )


def with_options(name: str, options: str) -> str:
    """``("transxnet_t@dpe=false", "local_conv=dyconv")`` -> ``"transxnet_t@dpe=false,local_conv=dyconv"``."""
    if not options:
        return name
    return name + ("," if "@" in name else "@") + options


def _option_value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two for deep nesting
        return text
