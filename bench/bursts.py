# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What many starts or ends at once came to, from the report of the node's program. Pure."""

from __future__ import annotations

import typing as t

from bench.lab import LabError
from bench.stats import summarize


class Burst(t.NamedTuple):
    """The lag of each container in milliseconds: of the engine, and of the floor on the same events, in the same order."""

    engine: list[float]
    floor: list[float]
    seconds: float


def burst(report: t.Mapping[str, t.Any], count: int) -> Burst:
    """Turn a report of bench/node/burst.py into lags.

    Raises:
        LabError: a container is missing, so the engine or the floor lost one.
    """
    began = report["began"]
    if len(began) != count:
        raise LabError(f"Docker reported {len(began)} of {count} containers of the burst")
    for side in ("engine", "floor"):
        missing = sorted(set(began) - set(report[side]))
        if missing:
            raise LabError(f"the catalogue did not follow the {side} for {len(missing)} of {count} containers, such as {missing[0]}")
    lags = {side: [(report[side][name] - began[name]) * 1000 for name in sorted(began)] for side in ("engine", "floor")}
    return Burst(lags["engine"], lags["floor"], float(report["seconds"]))


def joined(bursts: t.Iterable[Burst]) -> Burst:
    """Join the containers of several bursts."""
    every = list(bursts)
    return Burst(
        [lag for one in every for lag in one.engine],
        [lag for one in every for lag in one.floor],
        sum(one.seconds for one in every),
    )


def figures(prefix: str, found: Burst) -> dict[str, float]:
    """Return the figures of a kind of burst; what the engine needs above the floor is taken container by container."""
    above = [mine - least for mine, least in zip(found.engine, found.floor)]
    engine, floor = summarize(found.engine), summarize(found.floor)
    return {
        f"{prefix}_median_ms": engine.median,
        f"{prefix}_p95_ms": engine.p95,
        f"{prefix}_worst_ms": engine.most,
        f"{prefix}_floor_median_ms": floor.median,
        f"{prefix}_floor_worst_ms": floor.most,
        f"{prefix}_above_floor_median_ms": summarize(above).median,
    }
