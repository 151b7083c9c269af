# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few statistics that the reports need. Pure."""

from __future__ import annotations

import math
import statistics
import typing as t


def percentile(samples: t.Sequence[float], share: float) -> float:
    """The value below which a share of the samples lies, linear between two samples.

    Args:
        samples: at least one, in any order.
        share: from 0 to 1.
    """
    if not samples:
        raise ValueError("there are no samples")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, but it must be from 0 to 1")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Summary(t.NamedTuple):
    """What a row of samples comes down to. The spread is the distance between the quartiles: half of the samples lie in it."""

    n: int
    median: float
    p95: float
    least: float
    most: float
    spread: float


def summarize(samples: t.Sequence[float]) -> Summary:
    """Sum samples up."""
    return Summary(
        n=len(samples),
        median=percentile(samples, 0.5),
        p95=percentile(samples, 0.95),
        least=min(samples),
        most=max(samples),
        spread=percentile(samples, 0.75) - percentile(samples, 0.25),
    )


def paired_ratio(ours: t.Sequence[float], theirs: t.Sequence[float]) -> float:
    """The median of the ratios of samples that were taken one right after the other, so that a busy moment of the machine falls on both."""
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} and {len(theirs)} samples make no pairs")
    return statistics.median(mine / other for mine, other in zip(ours, theirs))


def rounded(value: float) -> float:
    """Four significant digits: more would pretend a precision that no run has."""
    if value == 0 or not math.isfinite(value):
        return value
    digits = 3 - math.floor(math.log10(abs(value)))
    result = round(value, digits)
    return int(result) if digits <= 0 else result
