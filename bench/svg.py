# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of measurements as plain SVG: one panel for each question, one row for each candidate, every sample as a dot. Pure."""

from __future__ import annotations

import math
import typing as t
from xml.sax.saxutils import escape

from bench.stats import percentile, rounded

WIDTH = 860
LABEL_WIDTH = 250
VALUE_WIDTH = 110
ROW = 26
PANEL_HEAD = 44
PANEL_FOOT = 26
COLOURS = {"platform": "#1f5fa8", "other": "#8a6d3b", "bound": "#777777"}


class Row(t.NamedTuple):
    """One candidate. The kind says whose it is: platform, other, or bound (the best that is possible)."""

    label: str
    samples: t.Sequence[float]
    kind: str = "other"


class Panel(t.NamedTuple):
    """One question."""

    title: str
    unit: str
    rows: t.Sequence[Row]


def nice_step(top: float, steps: int = 5) -> float:
    """A round distance between the marks of an axis from 0 to ``top``."""
    raw = top / steps
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)


def _text(x: float, y: float, text: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{escape(text)}</text>'


def _panel(panel: Panel, top: float) -> tuple[list[str], float]:
    left, right = LABEL_WIDTH, WIDTH - VALUE_WIDTH
    most = max((max(row.samples) for row in panel.rows if row.samples), default=0.0) or 1.0
    step = nice_step(most)
    end = math.ceil(most / step - 1e-9) * step
    place = (right - left) / end
    bottom = top + PANEL_HEAD + ROW * len(panel.rows)
    parts = [_text(8, top + 24, f"{panel.title} ({panel.unit})", 'class="title"')]
    for number in range(round(end / step) + 1):
        x = left + number * step * place
        parts.append(f'<line x1="{x:.1f}" y1="{top + PANEL_HEAD - 8}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        parts.append(_text(x, bottom + 14, f"{rounded(number * step):g}", 'class="mark" text-anchor="middle"'))
    for number, row in enumerate(panel.rows):
        y = top + PANEL_HEAD + ROW * (number + 0.5)
        colour = COLOURS[row.kind]
        parts.append(_text(left - 10, y + 4, row.label, 'text-anchor="end"'))
        if not row.samples:
            parts.append(_text(right + 10, y + 4, "not measured", 'class="mark"'))
            continue
        median = percentile(row.samples, 0.5)
        parts.append(f'<rect x="{left}" y="{y - 7:.1f}" width="{max(1.0, median * place):.1f}" height="14" fill="{colour}" fill-opacity="0.25"/>')
        parts += [f'<circle cx="{left + sample * place:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}" fill-opacity="0.55"/>' for sample in row.samples]
        x = left + median * place
        parts.append(f'<line x1="{x:.1f}" y1="{y - 9:.1f}" x2="{x:.1f}" y2="{y + 9:.1f}" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(_text(right + 10, y + 4, f"{rounded(median):g}", f'class="value" fill="{colour}"'))
    return parts, bottom + PANEL_FOOT


def picture(title: str, panels: t.Sequence[Panel]) -> str:
    """The whole picture."""
    parts = [_text(8, 26, title, 'class="head"'), _text(8, 44, "a dot is a sample, the line and the number at the right are the median", 'class="mark"')]
    top = 52.0
    for panel in panels:
        drawn, top = _panel(panel, top)
        parts += drawn
    style = (
        "text{font:13px sans-serif;fill:#222}.head{font-size:18px;font-weight:bold}.title{font-weight:bold}"
        ".mark{font-size:11px;fill:#666}.value{font-weight:bold}.grid{stroke:#ddd;stroke-width:1}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top:.0f}" viewBox="0 0 {WIDTH} {top:.0f}" role="img">'
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", f"<style>{style}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""]
    )
