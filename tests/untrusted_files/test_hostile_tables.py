"""Hostile label tables: used, used in part or refused, in bounded time and memory."""

import io
import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.label_tables import write_images
from tests.helpers.limited_process import outcome_table, run_limited
from transxnet.data.open_data import open_data
from transxnet.data.reading.table_paths import table_images
from transxnet.data.recognize import recognize
from transxnet.utils.errors import UserError

ROWS = 30

CELLS = [
    "", " ", "0", "1", "-1", "1.0", "2.5", "1e308", "1e999", "nan", "inf", "-inf", "1_0", "9" * 5000, "²", "٣", "true",
    "a|b", "a;b", "a,b", "|", ";;", ",", "a|" * 2000, "train", "val", "test", "fold1", "none", '"', '"a', 'a"b', "'",
    "=1+1", "\0", "\n", "\r", "\ufeff", "\ud800", "\u2028", "<script>", "../../../etc/passwd", "/dev/zero", "/", ".",
    "..", "..\\0.png", "C:\\0.png", "0.png", "0", "x" * 200_000, "http://localhost/0.png", "%s{0}{__class__}",
]  # fmt: skip
"""Replacement cells."""

VALUES = [
    None, True, 0, -1, 2**63, 10**400, 3.5, 1e308, float("nan"), float("inf"), [], [[]], ["a", "b"], [None], [1, [2]],
    {}, {"a": 1}, "\ud800",
]  # fmt: skip
"""Further replacement values in JSON Lines and Parquet."""


def whole() -> list[dict[str, object]]:
    """The rows of a valid table."""
    return [
        {
            "path": f"{i}.png",
            "label": "ab"[i % 2],
            "split": ["train", "val"][i % 4 == 0],
            "group": str(i),
            "weight": "1",
        }
        for i in range(ROWS)
    ]


def mutated(seed: int, values: list) -> tuple[str, list[dict[str, object]]]:
    """The kind of mutation, and the mutated rows."""
    chance, rows = random.Random(seed), whole()
    kind = chance.choice(("cells", "column", "name", "missing"))
    column = chance.choice(list(rows[0]))
    if kind == "cells":
        for _ in range(chance.choice((1, 2, 5))):
            chance.choice(rows)[chance.choice(list(rows[0]))] = chance.choice(values)
    elif kind == "column":
        some = chance.sample(values, 3)
        for row in rows:
            row[column] = chance.choice(some)
    elif kind == "name":
        name = str(chance.choice(values))
        rows = [{name if key == column else key: value for key, value in row.items()} for row in rows]
    else:
        for row in rows[: chance.choice((1, ROWS))]:
            row.pop(column)
    return kind, rows


def csv_file(seed: int) -> tuple[str, bytes]:
    """The kind of mutation, and a mutated CSV file."""
    chance = random.Random(seed)
    kind, rows = mutated(seed, CELLS)
    separator = chance.choice(",;\t")
    lines = [separator.join(map(str, row.values())) for row in [{name: name for name in rows[0]}, *rows]]
    text = chance.choice(("\n", "\r\n", "\r", "\n\n")).join(lines)
    encoding = chance.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "utf-32"))
    content = bytearray(text.encode(encoding, "replace"))
    if chance.random() < 0.3:
        kind = "bytes"
        for _ in range(chance.choice((1, 3, 20))):
            content[chance.randrange(len(content))] = chance.randrange(256)
    return kind, bytes(content)


def json_lines(seed: int) -> tuple[str, bytes]:
    """The kind of mutation, and a mutated JSON Lines file."""
    chance = random.Random(seed)
    kind, rows = mutated(seed, [*CELLS, *VALUES])
    text = "\n".join(map(json.dumps, rows))
    if chance.random() < 0.2:
        position = chance.randrange(len(text))
        kind, text = "text", text[:position] + chance.choice(("", "[" * 100_000, "\0", "{}")) + text[position + 1 :]
    return kind, text.encode()


def parquet(seed: int) -> tuple[str, bytes]:
    """The kind of mutation, and a mutated Parquet file."""
    import pyarrow
    from pyarrow.parquet import write_table

    chance, file = random.Random(seed), io.BytesIO()
    kind, rows = mutated(seed, [cell for cell in CELLS if cell != "\ud800"])
    write_table(pyarrow.Table.from_pylist(rows), file, compression=chance.choice(("none", "snappy", "zstd")))
    content = bytearray(file.getvalue())
    if chance.random() < 0.7:
        kind = "bytes"
        for _ in range(chance.choice((1, 3, 20))):
            content[chance.randrange(len(content))] = chance.randrange(256)
    return kind, bytes(content)


FORMS = {"labels.csv": csv_file, "labels.jsonl": json_lines, "labels.parquet": parquet}


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, ROWS)
    return folder


def use(file: Path, content: bytes) -> str:
    """Open a table for training, and as a list of images."""
    file.write_bytes(content)
    with suppress(UserError):
        list(table_images(file))
    try:
        source = open_data(recognize(str(file)))
    except UserError as error:
        return "refused" if len(str(error)) < 5000 else f"a message of {len(str(error))} characters"
    for images in (source.train, source.val):
        assert len(images.own_names) == len(images.own_labels)
        if images.targets == "classes":
            assert ((images.own_labels >= 0) & (images.own_labels < len(images.class_names))).all()
        else:
            assert not np.isinf(images.own_labels).any()
    return "used" if len(source.train) + len(source.val) == ROWS else "used in part"


@pytest.mark.parametrize("name", list(FORMS))
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_any_table_is_used_or_refused(count, name, image_folder):
    if name == "labels.parquet":
        pytest.importorskip("pyarrow")
    cases = [FORMS[name](seed) for seed in range(count)]
    outcomes = run_limited([content for _, content in cases], lambda content: use(image_folder / name, content))
    print(outcome_table([kind for kind, _ in cases], outcomes))
    assert set(outcomes) <= {"used", "used in part", "refused"}
    assert min(Counter(outcomes)[outcome] for outcome in ("used", "refused")) > 0


def test_names_outside_the_folder_are_images_or_missing(image_folder):
    rows = "".join(f"{name},a\n" for name in ("/dev/zero", "/dev/stdin", "/etc/passwd", "../../../../etc/passwd", "."))
    content = "path,label\n" + rows + "0.png,a\n1.png,b\n"
    (outcome,) = run_limited([content.encode()], lambda text: use(image_folder / "labels.csv", text), memory=200 << 20)
    assert outcome == "refused"


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin"])
def test_devices_are_not_opened(name, image_folder):
    content = "path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(ROWS)) * 2 + f"{name},a\n"
    (outcome,) = run_limited([content.encode()], lambda text: use(image_folder / "labels.csv", text), memory=200 << 20)
    assert outcome == "used"
