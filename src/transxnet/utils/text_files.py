"""Reading the files that others may have made: plain data comes out of them, or an error, and nothing is run."""

import json
import os
import stat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from defusedxml import DTDForbidden
from defusedxml.ElementTree import DefusedXMLParser

DEEPEST = 50
"""Levels that YAML and XML may be nested: recipes have one, annotations four. Reading takes quadratic time in them."""

LARGEST_YAML = 1 << 20
"""Bytes that a YAML file may have: ours have a few thousand, and the reader takes a second for a megabyte or two."""


def read_bytes(path: str | Path) -> bytes:
    """All of a regular file.

    Raises:
        OSError: it can't be read, or it is a pipe or a device, which may never end.
    """
    # Opening a pipe waits for somebody to write to it, unless one says not to.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is no regular file but a pipe or a device")
        return file.read()


def read_text(path: str | Path, errors: str = "strict") -> str:
    """A regular file as UTF-8, with or without a byte order mark.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: it is no UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig", errors)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: it is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds: text, numbers, lists and mappings.

    Tags of other things are refused, and so are aliases: a few lines of them can stand for more than any memory holds.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: it is no YAML, or more than plain data.
    """
    text = read_text(path)
    if len(text) > LARGEST_YAML:
        raise ValueError(f"it holds {len(text):,} characters, and options take at most {LARGEST_YAML:,}")
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # of values that belie their tags
        raise ValueError(f"a value is not of its type: {error}") from error


def read_xml(path: str | Path) -> ElementTree.Element:
    """The root of an XML file without a document type, whose entities could stand for other files or without end.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: it is no XML, declares a document type, or is nested too deeply.
    """
    parser = DefusedXMLParser(target=_ShallowBuilder(), forbid_dtd=True)
    try:
        parser.feed(read_bytes(path))
        return parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    except DTDForbidden as error:
        raise ValueError("it declares a document type, which is not accepted; remove <!DOCTYPE ...>") from error


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, and with a bound on the levels."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[no-untyped-call]
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted; write the value out", mark)
        return super().compose_node(parent, index)  # type: ignore[no-untyped-call]

    def fetch_flow_collection_start(self, token: Any) -> None:
        self._check_depth()
        super().fetch_flow_collection_start(token)  # type: ignore[no-untyped-call]

    def add_indent(self, column: int) -> bool:
        self._check_depth()
        return super().add_indent(column)  # type: ignore[no-untyped-call]

    def _check_depth(self) -> None:
        if self.flow_level + len(self.indents) > DEEPEST:
            mark = self.get_mark()  # type: ignore[no-untyped-call]
            raise yaml.scanner.ScannerError(None, None, f"nested more than {DEEPEST} levels deep", mark)


class _ShallowBuilder(ElementTree.TreeBuilder):
    """Builds elements, with a bound on the levels, which defusedxml does not have."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: Any, attributes: Any) -> ElementTree.Element:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"its elements are nested more than {DEEPEST} levels deep")
        return super().start(tag, attributes)

    def end(self, tag: Any) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)
