"""Read untrusted text files: the result is plain data or an error, and no code runs."""

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import yaml
from defusedxml import DTDForbidden
from defusedxml.ElementTree import DefusedXMLParser

DEEPEST = 50
"""Maximum depth of YAML and XML: recipes have one level, annotations four. Parsing time is quadratic in the depth."""

LARGEST_YAML = 1 << 20
"""Maximum size of a YAML file in bytes: ours have a few thousand, and parsing takes about a second per megabyte."""


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: the file cannot be read, or it is a pipe or a device, which may never end.
    """
    # Without O_NONBLOCK, opening a pipe blocks until another process writes to it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is a pipe or a device, not a regular file")
    return open(descriptor, "rb")


def read_bytes(path: str | Path) -> bytes:
    """Read a regular file.

    Raises:
        OSError: as :func:`open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | Path, errors: str = "strict") -> str:
    """Read a regular file as UTF-8, with or without a byte order mark.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: the file is not UTF-8.
    """
    return read_bytes(path).decode("utf-8-sig", errors)


def read_json(path: str | Path) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: the file is not JSON, has another encoding, or is nested too deeply.
    """
    try:
        return json.loads(read_bytes(path))
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise ValueError(f"its encoding is not UTF-8: {byte}; save it as UTF-8") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of text, numbers, lists and mappings.

    Other tags are rejected, and so are aliases: a few lines of them can expand to more than fits into memory.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: the file is not YAML, or contains more than plain data.
    """
    text = read_text(path)
    if len(text) > LARGEST_YAML:
        raise ValueError(f"it contains {len(text):,} characters; accepted: at most {LARGEST_YAML:,}")
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # a value does not match its tag
        raise ValueError(f"a value does not match its type: {error}") from error


def read_xml(path: str | Path) -> ElementTree.Element:
    """Read the root of an XML file. A document type is rejected: its entities could read files or expand endlessly.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: the file is not XML, declares a document type, or is nested too deeply.
    """
    parser = DefusedXMLParser(target=_ShallowBuilder(), forbid_dtd=True)
    try:
        parser.feed(read_bytes(path))
        return parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    except DTDForbidden as error:
        raise ValueError("document types are not accepted; remove <!DOCTYPE ...>") from error


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases and with a depth limit."""

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
    """Tree builder with a depth limit, which defusedxml does not have."""

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
