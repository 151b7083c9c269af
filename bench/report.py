# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run: JSON for programs, Markdown and a picture for people. Texts are made here and written nowhere else."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import time
import typing as t
from pathlib import Path

from bench.figures import Figure, Figures
from bench.stats import Summary, rounded, summarize
from bench.svg import Panel, picture

SCHEMA = 1
# A load average above this share of the processors, before the run began, is somebody else's work.
BUSY_SHARE = 0.5


@dataclasses.dataclass
class Series:
    """All samples of one measurement."""

    unit: str
    samples: list[float]

    def summary(self) -> Summary:
        """Summed up."""
        return summarize(self.samples)


class Table(t.NamedTuple):
    """Something that a reader wants to see and that is no figure, such as the slowest steps of a run."""

    title: str
    head: t.Sequence[str]
    rows: t.Sequence[t.Sequence[str | float]]


@dataclasses.dataclass
class Outcome:
    """What a suite hands over."""

    suite: str
    title: str
    figures: Figures
    series: dict[str, Series] = dataclasses.field(default_factory=dict)
    panels: list[Panel] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    #: Sentences that a reader must know: what was left out and why, what went wrong on the way.
    notes: list[str] = dataclasses.field(default_factory=list)
    #: How the run was set: repetitions, counts, versions.
    settings: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Add a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def add_series(self, name: str, unit: str, samples: t.Iterable[float]) -> Series:
        """Keep samples under a name."""
        kept = Series(unit, list(samples))
        self.series[name] = kept
        return kept


def machine() -> dict[str, t.Any]:
    """The machine that runs the nodes, and how busy it is before the run."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def revision(root: Path) -> str:
    """The commit of the checkout, with a plus sign when it holds changes of its own."""
    try:
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed.strip() else "")


def as_document(outcome: Outcome, host: dict[str, t.Any], commit: str, started: float, seconds: float) -> dict[str, t.Any]:
    """The JSON document."""
    return {
        "schema": SCHEMA,
        "suite": outcome.suite,
        "title": outcome.title,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(seconds),
        "commit": commit,
        "machine": host,
        "settings": outcome.settings,
        "figures": dict(outcome.figures.values),
        "units": {name: outcome.figures.declared[name].unit for name in outcome.figures.values},
        "targets": {figure.name: {"target": str(figure.target), "value": value, "met": met} for figure, value, met in outcome.figures.targets()},
        "notes": outcome.notes,
        "series": {
            name: {
                "unit": series.unit,
                **{key: rounded(value) for key, value in series.summary()._asdict().items()},
                "samples": [rounded(sample) for sample in series.samples],
            }
            for name, series in outcome.series.items()
            if series.samples
        },
        "tables": [{"title": table.title, "head": list(table.head), "rows": [list(row) for row in table.rows]} for table in outcome.tables],
    }


def as_markdown(document: dict[str, t.Any], declared: t.Mapping[str, Figure]) -> str:
    """The same for people."""
    host = document["machine"]
    lines = [
        f"# {document['title']}",
        "",
        (
            f"Measured {document['started']} at commit {document['commit']} on {host['processors']} processors and {host['memory_gib']:g} GiB"
            f" (kernel {host['kernel']}), in {document['seconds']} s. Made by `make bench SUITE={document['suite']}`."
        ),
        "",
        f"![{document['title']}]({document['suite']}.svg)",
        "",
    ]
    if host["load_before"] > BUSY_SHARE * host["processors"]:
        lines += [f"The machine was busy before the run began (load average {host['load_before']:g}): read the ratios and not the times.", ""]
    lines += [f"- {note}" for note in document["notes"]] + ([""] if document["notes"] else [])
    if document["targets"]:
        lines += ["## Targets", "", "| figure | measured | unit | to reach | reached |", "|---|---:|---|---|---|"]
        for name, target in document["targets"].items():
            lines.append(f"| `{name}` | {target['value']:g} | {document['units'][name]} | {target['target']} | {'yes' if target['met'] else 'no'} |")
        lines.append("")
    lines += ["## Figures", "", "| figure | value | unit | how it is measured |", "|---|---:|---|---|"]
    for name, value in document["figures"].items():
        lines.append(f"| `{name}` | {value:g} | {document['units'][name]} | {declared[name].what} |")
    for table in document["tables"]:
        lines += ["", f"## {table['title']}", "", f"| {' | '.join(table['head'])} |", "|---" * len(table["head"]) + "|"]
        lines += [f"| {' | '.join(f'{cell:g}' if isinstance(cell, (int, float)) else cell for cell in row)} |" for row in table["rows"]]
    lines += ["", "## Samples", "", "| measurement | unit | n | median | p95 | least | most | spread |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    for name, row in document["series"].items():
        numbers = " | ".join(f"{row[key]:g}" for key in ("n", "median", "p95", "least", "most", "spread"))
        lines.append(f"| `{name}` | {row['unit']} | {numbers} |")
    lines += ["", "The spread is the distance between the quartiles: half of the samples lie within it.", ""]
    return "\n".join(lines)


def write(outcome: Outcome, directory: Path, document: dict[str, t.Any]) -> list[Path]:
    """Write the three files; gives their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": json.dumps(document, indent=1, ensure_ascii=False) + "\n",
        "md": as_markdown(document, outcome.figures.declared),
        "svg": picture(outcome.title, outcome.panels),
    }
    paths = []
    for suffix, text in texts.items():
        path = directory / f"{outcome.suite}.{suffix}"
        new = path.with_suffix(path.suffix + ".new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)
        paths.append(path)
    return paths


def screen(document: dict[str, t.Any]) -> str:
    """The end of a run on a terminal: figures, then targets."""
    width = max((len(name) for name in document["figures"]), default=0)
    lines = [f"{name:<{width}}  {value:>10g} {document['units'][name]}" for name, value in document["figures"].items()]
    for name, target in document["targets"].items():
        lines.append(f"{'reached' if target['met'] else 'NOT reached'}: {name} is {target['value']:g}, to reach {target['target']}")
    return "\n".join([*lines, *document["notes"]])
