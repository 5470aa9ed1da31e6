import os

import pytest

from transxnet.utils.text_files import DEEPEST, LARGEST_YAML, read_bytes, read_json, read_text, read_xml, read_yaml


def write(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_text_is_read_with_and_without_byte_order_mark(tmp_path):
    assert (
        read_text(write(tmp_path, "caf\u00e9")) == read_text(write(tmp_path, b"\xef\xbb\xbfcaf\xc3\xa9")) == "caf\u00e9"
    )
    with pytest.raises(ValueError, match="utf-8"):
        read_text(write(tmp_path, b"caf\xe9"))


def test_pipe_and_folder_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path / "pipe", "a pipe or a device"), (tmp_path, "folder|directory")):
        with pytest.raises(OSError, match=message):
            read_bytes(path)


def test_plain_data_is_read(tmp_path):
    assert read_json(write(tmp_path, '{"a": [1, 2.5, null]}')) == {"a": [1, 2.5, None]}
    assert read_yaml(write(tmp_path, "a: [1, 2.5, null]\n")) == {"a": [1, 2.5, None]}
    assert read_xml(write(tmp_path, "<a><b>text</b></a>")).find("b").text == "text"


def levels(count: int) -> dict:
    return {
        read_json: "[" * count + "]" * count,
        read_yaml: "[" * count + "]" * count,
        read_xml: "<a>" * count + "</a>" * count,
    }


@pytest.mark.parametrize("read", [read_json, read_yaml, read_xml])
def test_deep_nesting_is_refused(tmp_path, read):
    read(write(tmp_path, levels(DEEPEST - 1)[read]))
    with pytest.raises(ValueError, match="nested"):
        read(write(tmp_path, levels(100_000 if read is read_json else DEEPEST + 2)[read]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &x 1\nb: *x\n", "aliases are not accepted"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: b: c", "mapping values are not allowed"),
        ("# " + "x" * LARGEST_YAML, "accepted: at most"),
    ],
    ids=["alias", "object", "syntax", "size"],
)
def test_yaml_beyond_plain_data_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_yaml(write(tmp_path, content))


@pytest.mark.parametrize("content", ['<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "<a><b></a>", "no xml"])
def test_xml_with_document_type_or_errors_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="document type" if "DOCTYPE" in content else r"mismatched|syntax error"):
        read_xml(write(tmp_path, content))
