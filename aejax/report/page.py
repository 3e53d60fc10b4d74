"""HTML of a report: one self-contained page, made of sections, tables, figures and sentences.

Every string from outside goes through `escape`; functions here that take `html` take what is already safe. The page
carries no script and forbids itself the network.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from aejax.report.figures import FONT, swatches

GENERATOR = '<meta name="generator" content="aejax report">'


class Section(NamedTuple):
    """A part of the page, and the figures that it puts beside the page as PNG, by name without suffix."""

    title: str
    html: str
    pngs: Mapping[str, bytes] = {}


def page(title: str, subtitle: Sequence[str], lead: str, sections: Sequence[Section]) -> str:
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
<style>{_CSS}</style>
</head>
<body>
<main>
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
    """A command to copy; it wraps, and is selected whole by one click."""
    return f'<pre class="command">{escape(text)}</pre>'


def figure(image: str, caption: str, alt: str, kind: str = "") -> str:
    """`image` is a data URI, `caption` html."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{kind}"><img src="{image}" alt="{escape(alt)}">{below}</figure>'


def panels(figures: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(figures)}</div>'


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
    values: Sequence[float | None]
    best: str | None = None
    decimals: int | None = None


def number_table(caption: str, names: Sequence[str], columns: Sequence[Column], ours: str | None = None) -> str:
    """A row for each name; columns without a single value are left out. The row `ours` stands out."""
    columns = [c for c in columns if any(is_number(v) for v in c.values)]
    cells = [[_cell(c, row) for c in columns] for row in range(len(names))]
    head = "".join(f'<th scope="col">{escape(c.name)}</th>' for c in columns)
    rows = "".join(
        f'<tr{" class=ours" if name == ours else ""}><th scope="row">{escape(name)}</th>{"".join(row)}</tr>'
        for name, row in zip(names, cells)
    )
    return f'<div class="scroll"><table class="numbers"><caption>{escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(column: Column, row: int) -> str:
    numbers = [v for v in column.values if is_number(v)]
    places = decimals(numbers) if column.decimals is None else column.decimals
    value = column.values[row]
    best = len(numbers) > 1 and column.best and value == {"low": min, "high": max}[column.best](numbers)
    return f"<td{' class=best' if best else ''}>{fixed(value, places)}</td>"


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "text", numeric: Sequence[bool] = ()
) -> str:
    """Cells are html; the columns that are `numeric` stand at the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        right = [*numeric, *[False] * (len(cells) - len(numeric))]
        return f"<tr>{''.join(f'<{tag}{" class=n" if r else ""}>{cell}</{tag}>' for cell, r in zip(cells, right))}</tr>"

    top = f"<thead>{line([escape(h) for h in head], 'th')}</thead>" if head else ""
    name = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table class="{kind}">{name}{top}<tbody>{body}</tbody></table></div>'


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def decimals(values: Sequence[float], significant: int = 3) -> int:
    """As many as give the smallest nonzero value so many significant digits, at most 7: a column aligns at its point."""
    sizes = [abs(v) for v in values if v]
    return min(7, max(0, significant - 1 - math.floor(math.log10(min(sizes))))) if sizes else 1


def fixed(value: float | None, places: int) -> str:
    return f"{value:.{places}f}".replace("-", "−") if is_number(value) else "–"


_CSS = (
    """
:root{--paper:#fff;--ink:#1c1e21;--muted:#5f666e;--line:#e3e6ea;--wash:#f6f7f8;--accent:#0072b2}
@media(prefers-color-scheme:dark){:root{--paper:#15181b;--ink:#e6e8ea;--muted:#9aa1a9;--line:#2f343a;--wash:#1d2125;--accent:#56b4e9}}
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 FONT}
main{max-width:62rem;margin:0 auto;padding:3.5rem 1.25rem 5rem}
h1{font-size:1.75rem;line-height:1.2;font-weight:650;letter-spacing:-.01em;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.125rem;font-weight:650;margin:0 0 1rem}
section{margin-top:3.5rem}
.facts{list-style:none;margin:0;padding:0;color:var(--muted);font-size:.9375rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.facts li{display:inline}.facts li+li::before{content:"\\00a0· "}
p{margin:0 0 1rem;max-width:44rem}
.note{color:var(--muted);font-size:.9375rem;overflow-wrap:anywhere}
.notice{border-left:3px solid var(--accent);background:var(--wash);padding:.6rem .9rem;font-size:.9375rem;margin:1.5rem 0 0;overflow-wrap:anywhere}
a{color:var(--accent);text-underline-offset:.15em}
code,.command{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
code{overflow-wrap:anywhere}
.command{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--wash);border-radius:6px;padding:.75rem 1rem;margin:0 0 1rem;user-select:all}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:1.75rem 2.5rem;margin:2.25rem 0 0}
.tile{border-top:2px solid var(--ink);padding-top:.7rem;min-width:0}
.tile h3{font-size:.9375rem;font-weight:600;margin:0}
.tile .value{font-size:2rem;line-height:1.25;font-weight:600;letter-spacing:-.015em;margin:.15rem 0 0;font-variant-numeric:tabular-nums}
.tile .unit{color:var(--muted);font-size:.8125rem;margin:0 0 .6rem}
.tile dl{display:grid;grid-template-columns:1fr auto;gap:.1rem 1rem;margin:0;font-size:.875rem;color:var(--muted)}
.tile dd{margin:0;font-variant-numeric:tabular-nums;text-align:right}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(18rem,100%),1fr));gap:1.75rem 1.5rem}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr));gap:2.5rem 3rem;align-items:start}
.columns>div{min-width:0}
figure{margin:0 0 1rem;min-width:0}
.panels figure{margin:0}
img{display:block;width:100%;height:auto}
.pixels img{image-rendering:pixelated}
figcaption,.caption{color:var(--muted);font-size:.875rem;line-height:1.5;margin-top:.6rem;max-width:44rem}
h3{font-size:.9375rem;font-weight:600;margin:0 0 .75rem}
.strips{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.5rem 1.25rem;align-items:center;font-size:.9375rem}
.strips small{display:block;color:var(--muted);font-size:.8125rem;line-height:1.3;font-variant-numeric:tabular-nums}
.strips img{image-rendering:pixelated}
.scroll{overflow-x:auto;max-width:100%;margin:0 0 1.5rem}
table{border-collapse:collapse;font-size:.9375rem;font-variant-numeric:tabular-nums;width:100%}
caption{text-align:left;font-weight:600;padding:0 0 .5rem}
th,td{padding:.32rem 0 .32rem 1.5rem;text-align:right;font-weight:400;border-top:1px solid var(--line);white-space:nowrap;vertical-align:top}
thead th,thead td{border-top:0;color:var(--muted);font-size:.8125rem;vertical-align:bottom}
tbody tr:first-child>*{border-top-color:var(--ink)}
th:first-child,td:first-child{padding-left:0;text-align:left}
.ours>*{font-weight:600}.numbers .best{color:var(--accent)}
.text td,.text th{text-align:left}
.text td:nth-child(n+2){white-space:normal;overflow-wrap:anywhere;min-width:9rem}
.text td:first-child{color:var(--muted)}
.runs td,.runs th{text-align:left}.runs .n{text-align:right}.runs thead th{white-space:normal;min-width:4.5rem}.runs .best{font-weight:600;color:var(--accent)}
SWATCHES
.swatch{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.5em}
details{margin:0 0 1.5rem}summary{cursor:pointer;color:var(--muted);font-size:.9375rem;margin-bottom:.75rem}
@media(max-width:40rem){main{padding:2rem 1rem 3rem}section{margin-top:2.75rem}.tiles{grid-template-columns:1fr 1fr;gap:1.5rem 1.25rem}.tile .value{font-size:1.5rem}
.strips{grid-template-columns:minmax(0,1fr);gap:.2rem}.strips img{margin-bottom:.6rem}.strips small{display:inline;margin-left:.6rem}th,td{padding-left:1rem}}
@media print{body{background:#fff}section{break-inside:avoid-page}}
"""
)
    .replace("FONT", FONT)
    .replace("SWATCHES", swatches())
