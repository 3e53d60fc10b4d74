"""HTML of a report: one self-contained page, made of sections, tables, figures and sentences.

Every string from outside goes through `escape`; functions here that take `html` take what is already safe. The page
carries no script and forbids itself the network.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple, TypeGuard

from aejax.reports.drawing import FONT, swatches

GENERATOR = '<meta name="generator" content="aejax report">'


class Section(NamedTuple):
    """A part of the page, and the figures that it puts beside the page as PNG, by name without suffix."""

    title: str
    html: str
    pngs: Mapping[str, bytes] = {}


def page(title: str, subtitle: Sequence[str], lead: str, sections: Sequence[Section], wide: bool = False) -> str:
    """The whole document. `lead` is html above the first section."""
    body = "\n".join(f"<section>\n<h2>{escape(s.title)}</h2>\n{s.html}\n</section>" for s in sections)
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in subtitle)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{GENERATOR}
<title>{escape(title)}</title>
<style>{_css()}</style>
</head>
<body>
<main{" class=wide" if wide else ""}>
<header><h1>{escape(title)}</h1><ul class="facts">{facts}</ul></header>
{lead}
{body}
</main>
</body>
</html>
"""


def paragraph(html: str, kind: str = "note") -> str:
    return f'<p class="{kind}">{html}</p>'


def code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def command(text: str) -> str:
    """A command to copy: selected whole by one click, and wrapped between its words."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))
    return f'<pre class="command">{words}</pre>'


def figure(image: str, caption: str, alt: str, kind: str = "") -> str:
    """`image` is a data URI, `caption` html."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{kind}"><img src="{image}" alt="{escape(alt)}">{below}</figure>'


def panels(figures: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(figures)}</div>'


def folded(summary: str, html: str) -> str:
    """Behind a line to click on."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def columns(blocks: Sequence[str]) -> str:
    """Blocks of html beside each other where the page is wide enough."""
    return f'<div class="columns">{"".join(f"<div>{block}</div>" for block in blocks)}</div>'


def svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


class Tile(NamedTuple):
    """A headline number with what to compare it to."""

    name: str
    value: str
    unit: str
    beside: Mapping[str, str]


def tiles(tiles: Sequence[Tile]) -> str:
    def beside(t: Tile) -> str:
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in t.beside.items())
        return f"<dl>{rows}</dl>" if rows else ""

    cells = "".join(
        f'<div class="tile"><h3>{escape(t.name)}</h3><p class="value">{escape(t.value)}</p>'
        f'<p class="unit">{escape(t.unit)}</p>{beside(t)}</div>'
        for t in tiles
    )
    return f'<div class="tiles">{cells}</div>'


class Column(NamedTuple):
    """A column of numbers. `best` says whether low or high is good, and marks that number; None marks none."""

    name: str
    unit: str
    values: Sequence[float | None]
    best: str | None = None
    decimals: int | None = None


def number_table(caption: str, names: Sequence[str], columns: Sequence[Column], ours: str | None = None) -> str:
    """A row for each name; columns without a single value are left out. The row `ours` stands out."""
    columns = [c for c in columns if any(is_number(v) for v in c.values)]
    cells = [[_cell(c, row) for c in columns] for row in range(len(names))]
    head = "".join(f'<th scope="col">{heading(c.name, c.unit)}</th>' for c in columns)
    rows = "".join(
        f'<tr{" class=ours" if name == ours else ""}><th scope="row">{escape(name)}</th>{"".join(row)}</tr>'
        for name, row in zip(names, cells)
    )
    return (
        f'<div class="scroll"><table class="numbers"><caption>{escape(caption)}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def heading(name: str, unit: str) -> str:
    """Of a column."""
    return escape(name) + (f"<small>{escape(unit)}</small>" if unit else "")


def _cell(column: Column, row: int) -> str:
    text, best = written(column)
    return f"<td{' class=best' if text[row] in best else ''}>{text[row]}</td>"


def written(column: Column) -> tuple[list[str], set[str]]:
    """The numbers as text, and which of these are the best: those that look the same are equally good."""
    numbers = [v for v in column.values if is_number(v)]
    places = decimals(numbers) if column.decimals is None else column.decimals
    text = [fixed(v, places) for v in column.values]
    if column.best is None or len(numbers) < 2:
        return text, set()
    return text, {fixed({"low": min, "high": max}[column.best](numbers), places)}


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "text", numeric: Sequence[bool] = ()
) -> str:
    """Head and cells are html; the columns that are `numeric` stand at the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        right = [*numeric, *[False] * (len(cells) - len(numeric))]
        marks = [" class=n" if r else "" for r in right]
        return f"<tr>{''.join(f'<{tag}{mark}>{cell}</{tag}>' for cell, mark in zip(cells, marks))}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    name = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table class="{kind}">{name}{top}<tbody>{body}</tbody></table></div>'


def is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def decimals(values: Sequence[float], significant: int = 3) -> int:
    """As many as give the smallest nonzero value so many significant digits, at most 7: so a column aligns. What 7 places
    show as zero counts as zero."""
    sizes = [abs(v) for v in values if abs(v) > 5e-8]
    return min(7, max(0, significant - 1 - math.floor(math.log10(min(sizes))))) if sizes else 1


def fixed(value: float | None, places: int) -> str:
    """With a true minus, and without one before zero; a dash where there is no number."""
    return f"{value:z.{places}f}".replace("-", "−") if is_number(value) else "–"


def _css() -> str:
    css = (Path(__file__).parent / "style.css").read_text("utf-8")
    return css.replace("FONT", FONT) + swatches()
