import pytest

from transxnet.utils.tables import MAX_ROWS, data_frame, html_table


def test_html_escapes_text_and_rounds_numbers():
    html = html_table("<i>", ("a&b", "n"), [("<script>", 0.123456), ("x", 1234)])
    assert "<i>" not in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<th>a&amp;b</th>" in html
    assert ">0.1235<" in html
    assert ">1234<" in html


def test_long_tables_are_cut():
    html = html_table("t", ("a",), [(str(i),) for i in range(MAX_ROWS + 1234)])
    assert html.count("<tr>") == 1 + MAX_ROWS + 1
    assert "and 1,234 more" in html


def test_data_frame_has_columns_or_rows():
    pytest.importorskip("pandas")
    for content in ({"a": [1, 2], "b": ["x", "y"]}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]):
        assert data_frame(content).to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}
