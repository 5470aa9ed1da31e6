"""Find fonts for any text, and shorten text to one line."""

import bisect
import re
import unicodedata
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont


def one_line(text: str) -> str:
    """Return the text on one line, without control characters and lone surrogates."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).split())


def truncate(text: str, font: ImageFont.FreeTypeFont, width: float, end: str = "") -> str:
    """Return ``text + end``, with the text truncated so that both take at most ``width`` pixels if possible."""
    if font.getlength(text + end) <= width:
        return text + end
    fits = bisect.bisect_right(range(len(text)), width, key=lambda kept: font.getlength(f"{text[:kept]}…{end}"))
    return f"{text[: max(fits - 1, 0)].rstrip()}…{end}"


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float, lines: int) -> list[str]:
    """Break a text after spaces and separators of names into lines of at most ``width`` pixels.

    A piece without separators that is wider, and the rest after the last line, are truncated.
    """
    wrapped = [""]
    for piece in re.findall(r"[^\s,./_=()-]+[\s,./_=()-]*|[\s,./_=()-]+", text):
        if len(wrapped) < lines and wrapped[-1] and font.getlength((wrapped[-1] + piece).rstrip()) > width:
            wrapped.append("")
        wrapped[-1] += piece
    return [truncate(line.rstrip(), font, width) for line in wrapped]


@lru_cache(maxsize=256)
def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of ``size`` pixels that has all characters of the text: DejaVu Sans, or else a system font.

    DejaVu Sans comes with matplotlib and covers the Latin, Greek, Cyrillic, Hebrew and Arabic scripts, unlike Pillow's
    own font. If no font has all characters, the missing ones are drawn as empty boxes.
    """
    from matplotlib import get_data_path

    default = str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    needed = {ord(c) for c in text if not c.isspace()}
    if needed <= _characters(default):
        return ImageFont.truetype(default, size)
    found = next((file for file in _system_fonts() if needed <= _characters(file)), default)
    return ImageFont.truetype(found, size)


@cache
def _characters(file: str) -> frozenset[int]:
    """Return the code points in a font file; empty if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _system_fonts() -> list[str]:
    """List the font files of the system, upright ones of normal weight first."""
    from matplotlib.font_manager import fontManager

    fonts = [font for font in fontManager.ttflist if "LastResort" not in font.fname]  # has only placeholders
    return [font.fname for font in sorted(fonts, key=lambda f: (f.style != "normal", f.weight not in (400, "normal")))]
