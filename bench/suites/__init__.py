# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suites. A further one is a module of its own and a line here."""

from __future__ import annotations

import typing as t

from bench.figures import Figure
from bench.lab import Lab
from bench.options import Options
from bench.report import Outcome
from bench.suites import converge, dns, edge, growth, idle, registration


class Suite(t.NamedTuple):
    """One suite: its parts can be run alone, its figures are all that it may report."""

    parts: tuple[str, ...]
    figures: tuple[Figure, ...]
    run: t.Callable[[Lab, Options], Outcome]
    #: Whether it takes running nodes. Otherwise it makes its own, and what it gets is a lab without any.
    nodes: bool = True


SUITES: dict[str, Suite] = {
    "converge": Suite(converge.PARTS, converge.FIGURES, converge.run, nodes=False),
    # Early, because programs keep for long the memory that the loads of the others took.
    "idle": Suite(idle.PARTS, idle.FIGURES, idle.run),
    "dns": Suite(dns.PARTS, dns.FIGURES, dns.run),
    "edge": Suite(edge.PARTS, edge.FIGURES, edge.run),
    "registration": Suite(registration.PARTS, registration.FIGURES, registration.run),
    "growth": Suite(growth.PARTS, growth.FIGURES, growth.run),
}
