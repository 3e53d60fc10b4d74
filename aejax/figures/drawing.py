"""Drawing of the report's figures: colors for light and dark pages, fonts, and matplotlib figures as PNG and SVG.

Sizes are in CSS pixels. Every color has a counterpart for dark pages, which the SVG selects by `prefers-color-scheme`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1c1e21", "#6a7078", "#e3e6ea", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072b2", "#d55e00", "#00896b", "#a8558f", "#8a9099"  # after Okabe & Ito
METHOD_COLORS = {"model": BLUE, "optimal_linear": ORANGE, "pca": GREEN, "input": GRAY}
"""Colors of the methods that restore."""

CLASSES = ("#332288", "#cc6677", "#117733", "#999933", "#882255", "#44aa99", "#aa4499", "#6699cc", "#c59c2e", "#777777")
"""Colors of classes, after Tol's muted scheme, which is distinguishable with the common color deficiencies."""

_DARK = {
    INK: "#e6e8ea",
    MUTED: "#9aa1a9",
    LINE: "#2f343a",
    PAPER: "#15181b",
    BLUE: "#56b4e9",
    ORANGE: "#f0904d",
    GREEN: "#3cc49f",
    PURPLE: "#d795c0",
    GRAY: "#848b94",
    **dict(
        zip(
            CLASSES,
            (
                "#8f8ae6",
                "#e58a99",
                "#4cae6b",
                "#c4c45c",
                "#cf6a96",
                "#6fd0c0",
                "#cf7fc6",
                "#88bbee",
                "#e3c067",
                "#a5a5a5",
            ),
        )
    ),
}

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", sans-serif'

LABEL_CHARACTERS = 22
CHARACTER = 6.2
"""Width of a character in pixels, at the labels' size of 11."""


@contextmanager
def style() -> Iterator[None]:
    """Context with matplotlib's defaults, whatever the user's matplotlibrc says, and without math text."""
    ours = {"svg.fonttype": "none", "svg.hashsalt": "aejax", "text.parse_math": False, "axes.unicode_minus": True}
    with matplotlib.style.context(["default", ours]):
        yield


def canvas(size: tuple[float, float]) -> Figure:
    """At 72 dots per inch a point is a pixel; the PNG has three times as many."""
    figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=216, facecolor=PAPER)
    FigureCanvasSVG(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Three device pixels per CSS pixel, on white."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name may use a script that matplotlib's font lacks; the page shows it in the reader's fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """With text in the reader's system font, no background, and colors for light and dark pages."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"font-family: [^;\"]*", "font-family: " + FONT.replace('"', "'"), text)
    text = re.sub(r"font: ([^;\"]*px) [^;\"]*", rf"font: \1 {FONT}".replace('"', "'"), text)
    names = {light: f"--c{i}" for i, light in enumerate(_DARK)}
    text = re.sub(
        r"(fill|stroke): (#[0-9a-f]{6})",
        lambda m: f"{m[1]}: var({names[m[2]]})" if m[2] in names else m[0],
        text,
    )
    light = ";".join(f"{name}:{color}" for color, name in names.items())
    dark = ";".join(f"{name}:{_DARK[color]}" for color, name in names.items())
    theme = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    return text.replace("<defs>", theme + "<defs>", 1)


def css_class(color: str) -> str:
    """The class that gives an element of the page this color as its background."""
    return f"c{list(_DARK).index(color)}"


def swatches() -> str:
    """Rules for `css_class`."""
    light = "".join(f".{css_class(c)}{{background:{c}}}" for c in _DARK)
    dark = "".join(f".{css_class(c)}{{background:{d}}}" for c, d in _DARK.items())
    return f"{light}@media(prefers-color-scheme:dark){{{dark}}}"


def shorten(text: str) -> str:
    """A label that is printable, with lines of at most LABEL_CHARACTERS characters."""
    lines = ("".join(c if c.isprintable() else " " for c in line) for line in text.split("\n"))
    return "\n".join(line if len(line) <= LABEL_CHARACTERS else line[: LABEL_CHARACTERS - 1] + "…" for line in lines)
