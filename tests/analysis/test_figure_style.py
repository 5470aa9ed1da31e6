"""User-supplied text in figures, and normalized images as bytes."""

import numpy as np
from matplotlib.figure import Figure

from transxnet.analysis.figure_style import figure_style, hide_axes, set_text


def test_set_text_has_no_math_and_no_extra_lines():
    text = Figure().text(0, 0, "")
    set_text(text, "cost $x$", 9, color="red")
    assert text.get_text() == "cost $x$"
    assert not text.get_parse_math()
    assert text.get_color() == "red"


def test_set_text_shortens_lines_to_the_width():
    text = Figure().text(0, 0, "")
    set_text(text, "a" * 200 + "\nshort", 9, width=1)
    first, second = text.get_text().split("\n")
    assert len(first) < 30
    assert second == "short"


def test_figure_style_ignores_the_users_settings():
    import matplotlib

    with matplotlib.rc_context({"font.size": 40, "image.cmap": "gray"}), figure_style():
        assert matplotlib.rcParams["font.size"] == 9
        assert matplotlib.rcParams["image.cmap"] == "viridis"


def test_hide_axes_keeps_the_image():
    axes = Figure().subplots()
    axes.imshow(np.zeros((2, 2)))
    hide_axes(axes)
    assert len(axes.images) == 1
    assert not len(axes.get_xticks())
    assert not any(spine.get_visible() for spine in axes.spines.values())


def test_set_text_breaks_long_lines_at_separators():
    text = Figure().text(0, 0, "")
    set_text(text, "net (local_conv=dyconv, token_enhancer=conv1x1)", 9, width=1.5)
    assert text.get_text().split("\n") == ["net (local_conv=", "dyconv, token_", "enhancer=conv1x1)"]
