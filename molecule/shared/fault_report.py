# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers saw while something failed: figures, their limits, JSON for programs, and one HTML page with a picture for each fault. Pure."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import operator
import typing as t
from pathlib import Path

SCHEMA = 1
SLOW_SECONDS = 1.0
#: A call that begins so long after the fault meets a platform that has noticed it.
NOTICED_SECONDS = 5.0
#: A call that begins so long after the loss of a node meets a catalogue and edges that have forgotten it.
ALL_NOTICED_SECONDS = 15.0
TROUBLES_KEPT = 40
#: Begins the text of a problem when an answer came from the wrong service.
WRONG = "wrong route"
HTTP = ("http new", "http kept")
#: The same for the service that looks up and calls another one for each request.
FRONT = ("front new", "front kept")
#: The lanes of a picture, and the kinds of calls in each.
LANES = {
    "http by name": FRONT,
    "http": HTTP,
    "tcp": ("tcp",),
    "tls": ("tls",),
    "DNS, hosts": ("dns host",),
    "DNS, containers": ("dns container",),
}


class Sample(t.NamedTuple):
    """One call. ``at`` and ``took`` are seconds; the problem is empty when the answer was right."""

    kind: str
    where: str
    at: float
    took: float
    problem: str = ""

    @property
    def slow(self) -> bool:
        """Whether it took too long."""
        return self.took > SLOW_SECONDS

    @property
    def trouble(self) -> bool:
        """Whether anybody noticed."""
        return bool(self.problem) or self.slow


class Limit(t.NamedTuple):
    """What a figure must be."""

    figure: str
    comparison: str
    bound: float

    def __str__(self) -> str:
        """For people."""
        return f"{self.comparison} {self.bound:g}"

    def met(self, figures: t.Mapping[str, float]) -> bool:
        """Whether it is so; a figure that was not measured meets nothing."""
        compare = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[self.comparison]
        return self.figure in figures and bool(compare(figures[self.figure], self.bound))


@dataclasses.dataclass
class Record:
    """One fault."""

    name: str
    title: str
    must: str
    proof: str = ""
    #: When and how long it was measured; the day as text, because two runs may be in one report.
    measured: str = ""
    seconds: float = 0.0
    #: Seconds since the load began, and what happened.
    events: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    limits: list[Limit] = dataclasses.field(default_factory=list)
    #: Lane, then [all, slow, failed] of each second.
    lanes: dict[str, list[list[int]]] = dataclasses.field(default_factory=dict)
    troubles: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def unmet(self) -> list[str]:
        """The limits that do not hold."""
        return [f"{limit.figure} is {self.figures.get(limit.figure, math.nan):g}, must be {limit}" for limit in self.limits if not limit.met(self.figures)]

    @property
    def held(self) -> bool:
        """Whether all is as it must be."""
        return not self.notes and not self.unmet()


def _count(samples: t.Sequence[Sample], name: str) -> dict[str, float]:
    return {
        f"{name}_requests": len(samples),
        f"{name}_failed": sum(1 for sample in samples if sample.problem),
        f"{name}_slow": sum(1 for sample in samples if sample.slow),
    }


def figures(samples: t.Sequence[Sample], struck: float, since: float = -math.inf, away: t.Collection[str] = ()) -> dict[str, float]:
    """Return the figures of all calls that began at ``since`` or later; times of trouble count from the fault.

    A request counts as failed when no right answer came, as slow when it took longer than a second. Slow lookups of nodes
    that are away themselves are not counted.
    """
    counted = sorted((sample for sample in samples if sample.at >= since), key=lambda sample: sample.at)
    found: dict[str, float] = {}
    kinds_of = {
        "http": HTTP,
        "front": FRONT,
        "tcp": ("tcp",),
        "tls": ("tls",),
        "dns_host": ("dns host",),
        "dns_container": ("dns container",),
    }
    for name, kinds in kinds_of.items():
        found |= _count([sample for sample in counted if sample.kind in kinds], name)
    found["dns_failed"] = found["dns_host_failed"] + found["dns_container_failed"]
    lookups = [sample for sample in counted if sample.kind.startswith("dns") and sample.where not in away]
    found["dns_slow"] = sum(1 for sample in lookups if sample.slow)
    found["dns_slowest_s"] = round(max((sample.took for sample in lookups), default=0.0), 3)
    found["http_wrong"] = sum(1 for sample in counted if sample.problem.startswith(WRONG))
    for name, kinds in (("http", HTTP), ("front", FRONT)):
        calls = [sample for sample in counted if sample.kind in kinds]
        later = [sample for sample in calls if sample.problem and sample.at > struck + NOTICED_SECONDS]
        found[f"{name}_failed_later"] = len(later)
        found[f"{name}_slow_percent"] = round(100 * found[f"{name}_slow"] / max(1, len(calls)), 3)
        found[f"{name}_failed_percent"] = round(100 * found[f"{name}_failed"] / max(1, len(calls)), 3)
        found[f"{name}_slowest_s"] = round(max((sample.took for sample in calls), default=0.0), 3)
    troubles = [sample for sample in counted if sample.trouble and not sample.kind.startswith("dns")]
    # Without trouble there is no last one: 0.
    found["last_trouble_s"] = round(max((sample.at + sample.took - struck for sample in troubles), default=0.0), 2)
    found["trouble_span_s"] = round(max((sample.at + sample.took for sample in troubles), default=0.0) - min((one.at for one in troubles), default=0.0), 2)
    return found


def late_troubles(samples: t.Iterable[Sample], struck: float, ended: float) -> int:
    """Return how many calls by name went wrong or were slow while the fault lasted, once the whole platform had noticed it."""
    began = struck + ALL_NOTICED_SECONDS
    return sum(1 for sample in samples if sample.kind in FRONT and sample.trouble and began < sample.at < ended)


def lanes(samples: t.Iterable[Sample], begun: float, seconds: float) -> dict[str, list[list[int]]]:
    """Each lane's [all, slow, failed] by the second in which a call began."""
    count = max(1, math.ceil(seconds))
    lane_of = {kind: lane for lane, kinds in LANES.items() for kind in kinds}
    found = {lane: [[0, 0, 0] for _ in range(count)] for lane in LANES}
    for sample in samples:
        second = int(sample.at - begun)
        if 0 <= second < count and sample.kind in lane_of:
            cell = found[lane_of[sample.kind]][second]
            cell[0] += 1
            cell[1] += sample.slow and not sample.problem
            cell[2] += bool(sample.problem)
    return found


def troubles(samples: t.Iterable[Sample], begun: float) -> list[str]:
    """The first calls that went wrong, in words; wrong routes come before all others."""
    found = sorted((sample for sample in samples if sample.trouble), key=lambda sample: (not sample.problem.startswith(WRONG), sample.at))
    lines = [
        f"{sample.at - begun:.2f} s: {sample.kind} at {sample.where}: {sample.problem or 'slow'} (after {sample.took:.2f} s)"
        for sample in found[:TROUBLES_KEPT]
    ]
    return lines + ([f"... and {len(found) - len(lines)} more"] if len(found) > len(lines) else [])


def as_document(records: t.Iterable[Record], machine: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The JSON document: ``figures`` for each fault, what they must be, and what is needed to draw it again."""
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "faults": {
            record.name: {
                **dataclasses.asdict(record),
                "limits": {limit.figure: {"must_be": str(limit), "met": limit.met(record.figures)} for limit in record.limits},
                "held": record.held,
            }
            for record in records
        },
    }


# The page ---------------------------------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT = 900, 130, 20
LANE, GAP, HEAD, FOOT = 46, 10, 66, 26
COLOURS = {"right": "#9dbfe0", "slow": "#e0a030", "failed": "#c62828"}
_STYLE = (
    "body{font:15px/1.45 sans-serif;color:#222;max-width:940px;margin:24px auto;padding:0 16px}h2{margin:40px 0 4px}"
    "table{border-collapse:collapse;margin:8px 0}td,th{padding:3px 10px;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.held{color:#2e7d32}.not{color:#c62828;font-weight:bold}"
    "svg text{font:12px sans-serif;fill:#222}svg .mark{fill:#777;font-size:11px}details{margin:6px 0}pre{white-space:pre-wrap;font-size:12px}"
)


def _step(seconds: float) -> int:
    return next((step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300) if seconds / step <= 12), 600)


def picture(record: Record) -> str:
    """Load, failures and events on one line of time, as SVG."""
    seconds = max([len(cells) for cells in record.lanes.values()] + [1])
    place = (WIDTH - LEFT - RIGHT) / seconds
    bottom = HEAD + (LANE + GAP) * len(record.lanes)
    parts = []
    for number in range(0, seconds + 1, _step(seconds)):
        x = LEFT + number * place
        parts.append(f'<line x1="{x:.1f}" y1="{HEAD}" x2="{x:.1f}" y2="{bottom}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" class="mark" text-anchor="middle">{number} s</text>')
    for row, (lane, cells) in enumerate(record.lanes.items()):
        base = HEAD + (LANE + GAP) * row + LANE
        most = max([cell[0] for cell in cells] + [1])
        parts.append(f'<text x="{LEFT - 10}" y="{base - LANE / 2 + 4:.1f}" text-anchor="end">{html.escape(lane)}</text>')
        parts.append(f'<text x="{LEFT - 10}" y="{base - LANE / 2 + 18:.1f}" class="mark" text-anchor="end">most {most} in 1 s</text>')
        # All bars of a colour are one path, which makes the page a third shorter.
        bars: dict[str, list[str]] = {kind: [] for kind in COLOURS}
        for second, (count, slow, failed) in enumerate(cells):
            x, y = LEFT + second * place, float(base)
            for kind, value in (("failed", failed), ("slow", slow), ("right", count - slow - failed)):
                if value:
                    # One call of many is still to be seen.
                    height = max(LANE * value / most, 3.0 if kind != "right" else 0.0)
                    y -= height
                    bars[kind].append(f"M{x:.1f} {y:.1f}h{max(0.8, place * 0.9):.1f}v{height:.1f}H{x:.1f}z")
        parts += [f'<path d="{"".join(found)}" fill="{COLOURS[kind]}"/>' for kind, found in bars.items() if found]
        parts.append(f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}" stroke="#999"/>')
    for number, (at, text) in enumerate(record.events):
        x, y = LEFT + at * place, 14 + 13 * (number % 4)
        near_end = x > WIDTH - 220
        parts.append(f'<line x1="{x:.1f}" y1="{y - 9}" x2="{x:.1f}" y2="{bottom}" stroke="#444" stroke-dasharray="3 3"/>')
        parts.append(
            f'<text x="{x - 4 if near_end else x + 4:.1f}" y="{y}" text-anchor="{"end" if near_end else "start"}">{at:.1f} s {html.escape(text)}</text>'
        )
    height = bottom + FOOT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">'
    return "\n".join([head, f"<title>{html.escape(record.title)}</title>", *parts, "</svg>"])


def _section(record: Record) -> str:
    verdict = '<span class="held">held</span>' if record.held else '<span class="not">not held</span>'
    bounds: dict[str, list[Limit]] = {}
    for limit in record.limits:
        bounds.setdefault(limit.figure, []).append(limit)
    rows = []
    for name, value in record.figures.items():
        met = all(limit.met(record.figures) for limit in bounds.get(name, ()))
        said = ", ".join(str(limit) for limit in bounds.get(name, ()))
        rows.append(f"<tr><td>{html.escape(name)}</td><td{'' if met else ' class=not'}>{value:g}</td><td>{html.escape(said)}</td></tr>")
    parts = [
        f'<h2 id="{html.escape(record.name)}">{html.escape(record.title)}: {verdict}</h2>',
        f"<p>Must hold: {html.escape(record.must)}. Measured {html.escape(record.measured)}, in {record.seconds:.0f} s.</p>",
        *(f'<p class="not">{html.escape(note)}</p>' for note in record.notes),
        picture(record),
        f"<p>Injected, as was seen: {html.escape(record.proof)}</p>",
        f"<details><summary>Figures</summary><table><tr><th>figure</th><th>value</th><th>must be</th></tr>{''.join(rows)}</table></details>",
    ]
    if record.troubles:
        parts.append(f"<details><summary>What went wrong for callers</summary><pre>{html.escape(chr(10).join(record.troubles))}</pre></details>")
    return "\n".join(parts)


_COLUMNS = {
    "http requests": "http_requests",
    "failed": "http_failed",
    "slower than 1 s": "http_slow",
    "requests with a call by name": "front_requests",
    "of these failed": "front_failed",
    "of these slower than 1 s": "front_slow",
    "tcp and tls failed": "stream_failed",
    "DNS failed": "dns_failed",
    "DNS slower than 1 s": "dns_slow",
    "last disruption (s)": "last_trouble_s",
    "recovered after (s)": "right_s",
}


def _columns(record: Record) -> dict[str, str]:
    values = {**record.figures, "stream_failed": record.figures.get("tcp_failed", 0) + record.figures.get("tls_failed", 0)}
    return {name: f"{values[key]:g}" if key in values else "" for name, key in _COLUMNS.items()}


_READING = (
    "A request fails when no right answer comes. A kept connection that was closed between two requests is opened again by the caller, as the protocol "
    "has it, and counted apart. A TCP session fails when it is not opened or its first line is not echoed; one that is cut later is counted apart. "
    "Times of trouble count from the fault. The last column counts from the fault when that is a moment, and from its end when it lasts."
)


def as_html(document: t.Mapping[str, t.Any], records: t.Sequence[Record]) -> str:
    """One page without anything from elsewhere."""
    machine = document["machine"]
    rows = []
    for record in records:
        cells = "".join(f"<td>{value}</td>" for value in _columns(record).values())
        verdict = '<td class="held">held</td>' if record.held else '<td class="not">not held</td>'
        rows.append(f'<tr><td><a href="#{html.escape(record.name)}">{html.escape(record.title)}</a></td>{cells}{verdict}</tr>')
    held = sum(record.held for record in records)
    legend = ", ".join(f'<span style="background:{colour}">&nbsp;&nbsp;&nbsp;</span> {name}' for name, colour in COLOURS.items())
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Faults under load</title>',
            f"<style>{_STYLE}</style></head><body>",
            "<h1>Faults under load</h1>",
            f"<p>Commit {html.escape(str(machine.get('commit', 'unknown')))}, {machine.get('processors', '?')} processors that nodes and callers share,",
            f"load average {machine.get('load_before', '?')} before, kernel {html.escape(str(machine.get('kernel', '?')))}.",
            f"{held} of {len(records)} faults held what they must.</p>",
            f"<p>{_READING}</p>",
            f"<p>In the pictures, calls by the second in which they began: {legend}.</p>",
            f"<table><tr><th>fault</th>{''.join(f'<th>{name}</th>' for name in _COLUMNS)}<th></th></tr>{''.join(rows)}</table>",
            *(_section(record) for record in records),
            "</body></html>",
            "",
        ]
    )


def as_markdown(records: t.Sequence[Record]) -> str:
    """The table alone, for a page of the documentation."""
    lines = [
        f"| fault | must hold | {' | '.join(_COLUMNS)} | held |",
        f"|---|---|{'---:|' * len(_COLUMNS)}---|",
    ]
    for record in records:
        values = _columns(record)
        lines.append(f"| {record.title} | {record.must} | {' | '.join(values[name] for name in _COLUMNS)} | {'yes' if record.held else 'no'} |")
    return "\n".join([*lines, ""]).replace("<", "&lt;")


def as_json(document: t.Mapping[str, t.Any]) -> str:
    """The document with a line for each fault, so that two runs can be compared."""
    head = json.dumps({key: value for key, value in document.items() if key != "faults"}, ensure_ascii=False)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in document["faults"].items())
    return f'{head.removesuffix("}")}, "faults": {{\n{lines}\n}}}}\n'


def write(path: Path, records: t.Sequence[Record], machine: t.Mapping[str, t.Any]) -> None:
    """The three files, beside each other."""
    document = as_document(records, machine)
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = {".json": as_json(document), ".html": as_html(document, records), ".md": as_markdown(records)}
    for suffix, text in texts.items():
        new = path.with_suffix(suffix + ".new")
        new.write_text(text, encoding="utf-8")
        new.replace(path.with_suffix(suffix))


def read(path: Path) -> list[Record]:
    """The faults of an earlier run's JSON."""
    records = []
    for entry in json.loads(path.read_text(encoding="utf-8"))["faults"].values():
        kept = {field.name: entry[field.name] for field in dataclasses.fields(Record)}
        limits = [Limit(figure, *(limit["must_be"].split()[0], float(limit["must_be"].split()[1]))) for figure, limit in entry["limits"].items()]
        records.append(Record(**{**kept, "limits": limits, "events": [(at, text) for at, text in entry["events"]]}))
    return records
