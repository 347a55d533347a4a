"""Web pages in one file: text, tables and drawings, without scripts and without anything from the network."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from botvision.errors import printable
from botvision.files import write_text

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6675; --line: #d9dee6; --back: #fff; --card: #f5f7fa;
  --c0: #2f6fde; --c1: #e07b1a; --c2: #2a9d5c; --c3: #c8385a; --c4: #8a55d0; --c5: #14a0a8; --c6: #a8720f; --c7: #777; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b3; --line: #363d49; --back: #14181f;
  --card: #1d232c; --c0: #6ea0ff; --c1: #ffa04d; --c2: #57c98a; --c3: #ff7c98; --c4: #b78cff; --c5: #4fd0d8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1rem; margin: .8rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .3rem 0 .7rem; max-width: 48rem; }
.soft { color: var(--soft); overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 1rem; }
.wide { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 1rem; }
.small { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 1rem; }
.pictures { columns: 2 400px; column-gap: 1rem; } .pictures .card { break-inside: avoid; margin-bottom: 1rem; }
.card { background: var(--card); border-radius: 8px; padding: .7rem .9rem; min-width: 0; }
.number { font-size: 1.7rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow: auto; } .long { max-height: 38rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td:first-child, th:first-child, .text { text-align: left; }
td:first-child { overflow-wrap: anywhere; min-width: 8rem; }
.words td:first-child { min-width: 13rem; }
.bar { min-width: 6rem; width: 30%; } .bar div { height: .7rem; border-radius: 3px; min-width: 1px; }
.heat { width: auto; } .heat td { text-align: center; min-width: 2.2rem; } .heat th { max-width: 9rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; } .heat thead th { writing-mode: vertical-rl; max-height: 9rem; }
.heat td:first-child { min-width: 2.2rem; }
figure { margin: 0; } figure img { width: 100%; height: auto; border-radius: 6px; display: block; }
figcaption { font-size: .88rem; overflow-wrap: anywhere; padding-top: .3rem; }
svg { width: 100%; max-width: 560px; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
.legend span { display: inline-block; margin-right: 1rem; overflow-wrap: anywhere; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 3px; margin-right: .35rem; }
"""
COLOURS = 8
LONG = 30
"""Rows above which a table scrolls inside the page."""

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 280, 46, 36, 10, 12
"""Of a chart, and its margins, in the units of its drawing."""
TICKS = 5
MARKED = 30
"""Points of a line below which each has a mark."""


class Line(NamedTuple):
    """A line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write a page of sections, which are HTML already, whole or not at all."""
    write_text(path, PAGE.format(title=text(title), style=STYLE, body="\n".join(sections)))


def text(value: object) -> str:
    """Text for a page: everything in it is shown, nothing is obeyed."""
    return html.escape(printable(str(value)))


def section(title: str, about: str, *parts: str) -> str:
    """A section with a sentence on how to read it."""
    about = f'<p class="soft">{text(about)}</p>' if about else ""
    return "\n".join([f"<section><h2>{text(title)}</h2>", about, *parts, "</section>"])


def grid(parts: Iterable[str], kind: str = "grid") -> str:
    """Parts beside each other where there is room; kind "small", "wide" or "pictures" by what they are."""
    return f'<div class="{kind}">' + "".join(f'<div class="card">{part}</div>' for part in parts) + "</div>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table; cells are plain text, or made by :func:`bar` and :func:`heat`."""
    head = "".join(f"<th>{text(name)}</th>" for name in header)
    lines = ["<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows]
    about = "scroll long" if len(lines) > LONG else "scroll"
    content = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="{about}"><table class="{kind}">{content}</table></div>'


class Cell(str):
    """A cell of a table that is HTML already."""

    __slots__ = ()


def cell(content: str) -> str:
    """A cell of a table."""
    return content if isinstance(content, Cell) else f"<td>{text(content)}</td>"


def bar(share: float | None, colour: int = 0) -> Cell:
    """A cell with a bar; a share of 1 fills it."""
    width = 100 * min(max(share or 0.0, 0.0), 1.0)
    div = f'<div style="width:{width:.1f}%;background:var(--c{colour % COLOURS})"></div>' if share else ""
    return Cell(f'<td class="bar">{div}</td>')


def heat(content: object, share: float, about: str) -> Cell:
    """A cell that is the more coloured the larger its share is; ``about`` is shown under the pointer."""
    style = f"background:rgba(47,111,222,{min(share, 1.0) ** 0.6:.2f})" + (";color:#fff" if share > 0.5 else "")
    return Cell(f'<td style="{style}" title="{text(about)}">{text(content)}</td>')


def legend(names: Iterable[str]) -> str:
    """Which colour stands for what."""
    return (
        '<div class="legend">'
        + "".join(
            f'<span><i style="background:var(--c{place % COLOURS})"></i>{text(name)}</span>'
            for place, name in enumerate(names)
        )
        + "</div>"
    )


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_range: tuple[float, float] | None = None) -> str:
    """A drawing of lines with its legend; the ranges are those of the points where none is given."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    x_low, x_high = widened(min(x for x, _ in points), max(x for x, _ in points))
    y_low, y_high = y_range or widened(min(y for _, y in points), max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP)

    drawn = []
    for y in ticks(y_low, y_high):
        up = place(x_low, y)[1]
        drawn.append(f'<path d="M{LEFT} {up:.1f}H{WIDTH - RIGHT}" stroke="var(--line)"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{y:.6g}</text>')
    for x in ticks(x_low, x_high):
        across = place(x, y_low)[0]
        drawn.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{x:.6g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{text(x_label)}</text>')
    for number, line in enumerate(lines):
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line.points)
        stroke = f'stroke="var(--c{number % COLOURS})"'
        drawn.append(f'<polyline points="{path}" fill="none" {stroke} stroke-width="2" stroke-linejoin="round"/>')
        if len(line.points) < MARKED:
            dots = (place(*point) for point in line.points)
            drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="none" {stroke}/>' for x, y in dots]
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">{"".join(drawn)}</svg>'
    return f"<h3>{text(title)}</h3>{svg}{legend(line.name for line in lines)}"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, at most :data:`TICKS` and one: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (high - low) / TICKS * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def widened(low: float, high: float) -> tuple[float, float]:
    """A range with room for a single value too."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def jpeg(picture: Image.Image, longest: int) -> str:
    """A picture as JPEG in base64, shrunk to at most so many pixels on the longer side."""
    picture = picture.convert("RGB")
    picture.thumbnail((longest, longest))
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=82, optimize=True)
        return base64.b64encode(file.getvalue()).decode()


def figure(picture: str, caption: str) -> str:
    """A picture of :func:`jpeg` with its caption, which is HTML."""
    return (
        f'<figure><img src="data:image/jpeg;base64,{text(picture)}" alt=""><figcaption>{caption}</figcaption></figure>'
    )
