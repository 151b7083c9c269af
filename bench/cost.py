# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What units cost while nothing happens: processor time over a while, and memory at its end."""

from __future__ import annotations

import time
import typing as t

from bench.lab import LabError, Node

# What bench/node/processes.py says of a unit.
Usage = t.Mapping[str, int]


class Cost(t.NamedTuple):
    """One unit. The memory is proportional (PSS) and resident (RSS)."""

    cpu_percent: float
    pss_mb: float
    rss_mb: float


def cost(before: Usage, after: Usage, seconds: float) -> Cost:
    """From two looks at a unit. A unit without a process costs nothing.

    Raises:
        ValueError: it was started anew in between, so its processor time began at nothing again.
    """
    if before["pid"] != after["pid"]:
        raise ValueError(f"process {before['pid']} became process {after['pid']}")
    return Cost((after["cpu_ns"] - before["cpu_ns"]) / seconds / 1e7, after["pss"] / 1e6, after["rss"] / 1e6)


def total(costs: t.Iterable[Cost]) -> Cost:
    """The sum."""
    rows = list(costs)
    return Cost(sum(row.cpu_percent for row in rows), sum(row.pss_mb for row in rows), sum(row.rss_mb for row in rows))


def look(node: Node, units: t.Sequence[str]) -> tuple[dict[str, Usage], float]:
    """What the units of a node have used so far, and the moment."""
    report: dict[str, Usage] = node.program("processes.py", *units)
    return report, time.monotonic()


def measure(wanted: t.Mapping[Node, t.Sequence[str]], seconds: float) -> dict[Node, dict[str, Cost]]:
    """The cost of units on several nodes over the same time.

    Raises:
        LabError: a unit was started anew meanwhile.
    """
    before = {node: look(node, units) for node, units in wanted.items()}
    time.sleep(seconds)
    result: dict[Node, dict[str, Cost]] = {}
    for node, units in wanted.items():
        first, began = before[node]
        last, ended = look(node, units)
        result[node] = {}
        for unit in units:
            try:
                result[node][unit] = cost(first[unit], last[unit], ended - began)
            except ValueError as error:
                raise LabError(f"{unit} on {node.name} was started anew while it should have been idle ({error}): see journalctl -u {unit}") from error
    return result
