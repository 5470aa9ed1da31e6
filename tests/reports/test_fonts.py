"""Text is truncated to its width and drawn with fonts that contain its characters."""

from transxnet.reports.fonts import font_for, one_line, truncate, wrap


def test_truncate_keeps_the_end_and_the_width():
    font = font_for("a long name", 12)
    cut = truncate("a long name", font, 60, " 98%")
    assert cut.endswith("… 98%") and cut.startswith("a")
    assert font.getlength(cut) <= 60 < font.getlength("a long name 98%")
    assert truncate("short", font, 60) == "short"
    assert one_line(" two\n lines\x00\udcff ") == "two lines"


def test_cyrillic_and_greek_have_their_own_glyphs():
    empty = font_for("", 20).getmask("\uffff")
    for letter in "жЩλΩ":
        drawn = font_for(letter, 20).getmask(letter)
        assert (drawn.size, bytes(drawn)) != (empty.size, bytes(empty))


def test_wrap_breaks_after_separators_and_truncates_the_rest():
    font = font_for("", 12)
    lines = wrap("runs/one_long_name/part, of three", font, 90, 2)
    assert lines[0] == "runs/one_"
    assert len(lines) == 2 and lines[1].endswith("…")
    assert all(font.getlength(line) <= 90 for line in lines)
    assert wrap("short", font, 90, 2) == ["short"]
