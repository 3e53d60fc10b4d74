"""The HTML of a report: one self-contained page made of sections, tables, figures and sentences.

Every string from outside goes through `escape`; functions that take `html` expect it to be safe already. The page contains no
script and forbids network access.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from aejax.figures.drawing import FONT, swatches
from aejax.figures.tables import Column, Table, with_numbers, written

GENERATOR = '<meta name="generator" content="aejax report">'


class Section(NamedTuple):
    """A part of the page, and its figures, which are also stored beside the page as PNG, by name without suffix."""

    title: str
    html: str
    pngs: Mapping[str, bytes] = {}


def page(
    title: str,
    subtitle: Sequence[str],
    lead: str,
    sections: Sequence[Section],
    wide: bool = False,
    runs: Sequence[str] = (),
) -> str:
    """The whole document. `lead` is HTML above the first section; `runs` are the directories that it is about."""
    body = "\n".join(f"<section>\n<h2>{escape(s.title)}</h2>\n{s.html}\n</section>" for s in sections)
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in subtitle)
    script = (Path(__file__).parent / "report.js").read_text("utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()  # no other script may run
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'sha256-{allowed}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{GENERATOR}
<meta name="runs" content="{escape(json.dumps(list(runs)))}">
<title>{escape(title)}</title>
<style>{_css()}</style>
</head>
<body>
<main{" class=wide" if wide else ""}>
<header><h1>{escape(title)}</h1><ul class="facts">{facts}</ul></header>
{lead}
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def paragraph(html: str, kind: str = "note") -> str:
    return f'<p class="{kind}">{html}</p>'


def code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def command(text: str) -> str:
    """A command to copy: one click selects all of it, and it wraps between words."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))
    return f'<pre class="command">{words}</pre>'


def figure(image: str, caption: str, alt: str, kind: str = "") -> str:
    """`image` is a data URI, `caption` HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{kind}"><img src="{image}" alt="{escape(alt)}">{below}</figure>'


def panels(figures: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(figures)}</div>'


def folded(summary: str, html: str) -> str:
    """A block that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def columns(blocks: Sequence[str]) -> str:
    """Blocks of HTML side by side if the page is wide enough."""
    return f'<div class="columns">{"".join(f"<div>{block}</div>" for block in blocks)}</div>'


def svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


class Tile(NamedTuple):
    """A headline number with numbers to compare it with."""

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


def number_table(table: Table) -> str:
    """A row per name, without columns that have no value. The row `ours` is highlighted."""
    columns = with_numbers(table.columns)
    cells = [[_cell(c, row) for c in columns] for row in range(len(table.names))]
    head = "".join(f'<th scope="col">{heading(c.name, c.unit)}</th>' for c in columns)
    rows = "".join(
        f'<tr{" class=ours" if name == table.ours else ""}><th scope="row">{escape(name)}</th>{"".join(row)}</tr>'
        for name, row in zip(table.names, cells)
    )
    return (
        f'<div class="scroll"><table class="numbers"><caption>{escape(table.caption)}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def heading(name: str, unit: str) -> str:
    """Heading of a column."""
    return escape(name) + (f"<small>{escape(unit)}</small>" if unit else "")


def _cell(column: Column, row: int) -> str:
    text, best = written(column)
    return f"<td{' class=best' if text[row] in best else ''}>{text[row]}</td>"


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "text", numeric: Sequence[bool] = ()
) -> str:
    """Head and cells are HTML; `numeric` columns are aligned to the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        right = [*numeric, *[False] * (len(cells) - len(numeric))]
        marks = [" class=n" if r else "" for r in right]
        return f"<tr>{''.join(f'<{tag}{mark}>{cell}</{tag}>' for cell, mark in zip(cells, marks))}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    name = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table class="{kind}">{name}{top}<tbody>{body}</tbody></table></div>'


def _css() -> str:
    css = (Path(__file__).parent / "style.css").read_text("utf-8")
    return css.replace("FONT", FONT) + swatches()
