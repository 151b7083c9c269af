# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures: what a suite promises to measure, and what it measured. A figure without a description cannot be reported."""

from __future__ import annotations

import operator
import typing as t

from bench.stats import rounded

_COMPARISONS: dict[str, t.Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}


class Target(t.NamedTuple):
    """What a figure should reach."""

    comparison: str
    value: float

    def met(self, measured: float) -> bool:
        """Whether it does."""
        return _COMPARISONS[self.comparison](measured, self.value)

    def __str__(self) -> str:
        return f"{self.comparison} {self.value:g}"


class Figure(t.NamedTuple):
    """One number of a report: its name, its unit, and how it is measured."""

    name: str
    unit: str
    what: str
    target: Target | None = None


class Figures:
    """The measured values of declared figures."""

    def __init__(self, declared: t.Iterable[Figure]) -> None:
        self.declared = {figure.name: figure for figure in declared}
        self.values: dict[str, float] = {}

    def set(self, name: str, value: float) -> None:
        """Note a value, rounded.

        Raises:
            KeyError: the suite did not declare the figure, so the reader could not know what it means.
            ValueError: the figure has a value already.
        """
        if name not in self.declared:
            raise KeyError(f"the figure {name} is not declared by its suite")
        if name in self.values:
            raise ValueError(f"the figure {name} was measured twice")
        self.values[name] = rounded(value)

    def missing(self) -> list[str]:
        """Declared figures without a value."""
        return [name for name in self.declared if name not in self.values]

    def targets(self) -> list[tuple[Figure, float, bool]]:
        """(figure, value, met) of the measured figures that have a target."""
        rows = []
        for name, value in self.values.items():
            figure = self.declared[name]
            if figure.target is not None:
                rows.append((figure, value, figure.target.met(value)))
        return rows


def markdown_table(declared: t.Iterable[Figure]) -> str:
    """The table of a README: every figure with its unit, target and meaning."""
    rows = ["| figure | unit | target | how it is measured |", "|---|---|---|---|"]
    rows += [f"| `{figure.name}` | {figure.unit} | {figure.target or ''} | {figure.what} |" for figure in declared]
    return "\n".join(rows)
