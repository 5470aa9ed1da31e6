import pytest

from transxnet.data.formats.class_names import read_class_names
from transxnet.utils.errors import UserError

TABLE = """Idx\tRatio\tTrain\tVal\tName
1\t0.1576\t11664\t1172\twall
2\t0.1072\t6046\t612\tbuilding, edifice
3\t0.0878\t8265\t796\tscreen, silver screen
4\t0.0480\t6678\t641\tscreen, CRT screen
"""


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("classes.txt", "cat\n big dog \n\nfox\n", ["cat", "big dog", "fox"]),
        ("labels.txt", "cat\r\ndog", ["cat", "dog"]),
        ("labels.json", '["cat", "dog"]', ["cat", "dog"]),
        ("classes.json", '{"1": "dog", "0": "cat"}', ["cat", "dog"]),
        ("classes.json", '{"names": ["cat"], "version": 1}', ["cat"]),
        ("objectInfo150.txt", TABLE, ["wall", "building", "screen, silver screen", "screen, CRT screen"]),
    ],
)
def test_names_are_read(name, text, names, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / "elsewhere", tmp_path) == names


def test_missing_file_gives_no_names(tmp_path):
    assert read_class_names(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.txt", "cat\ndog\ncat", "classes.txt contains 'cat' 2 times"),
        ("classes.txt", "\n", "classes.txt is empty"),
        ("labels.json", "{", "cannot read class names from .*labels.json"),
        ("labels.json", '{"1": "cat", "2": "dog"}', "cannot read class names from .*labels.json: '0'"),
        ("labels.json", "[1, 2]", "cannot read class names from .*labels.json: neither a list nor an object of names"),
        ("labels.json", "7", "cannot read class names from .*labels.json: neither a list nor an object of names"),
        ("labels.txt", b"\xff\xfe\xfa", "cannot read class names from .*labels.txt: 'utf-8'"),
    ],
)
def test_file_without_names_is_an_error(name, text, message, tmp_path):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"{message}.*Accepted"):
        read_class_names(tmp_path)
