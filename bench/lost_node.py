# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookups while a node is away, next to the same ones with every node up."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

from bench.figures import Figure, Target
from bench.lab import Lab, LabError, Node, wait_for
from bench.report import Outcome
from bench.stats import percentile

# The 99th percentile of a run lies among its 20 slowest lookups, and the ratios are the median of eight pairs. With fewer,
# they measure the noise of a machine whose processors three nodes share.
ROUNDS, COUNT = 8, 2000
MUSL = "trinode/resolve-musl:1"
SAMPLES = Path(__file__).resolve().parent.parent / "artifacts" / "images" / "trinode-samples.tar"
MOST_RATIO = 1.1

#: Kind of lookup -> what it is.
KINDS = {
    "getent": "`getent ahostsv4` on the host, a new process each time",
    "musl": "musl's `getaddrinfo` in a container of Docker's default network",
    "musl_network": "the same in a container of a network of its own, through Docker's resolver",
}


def declared() -> list[Figure]:
    """Return the figures of this part."""
    rows = []
    for kind, what in KINDS.items():
        for state, how in (("up", "with every node up"), ("away", "while another node is disconnected")):
            rows.append(Figure(f"{state}_{kind}_qps", "lookups/s", f"{what}, one after the other, {how}; median of {ROUNDS} runs"))
            rows.append(Figure(f"{state}_{kind}_p99_ms", "ms", "99th percentile there, median of the runs"))
        ratio = Target("<=", MOST_RATIO)
        rows.append(Figure(f"away_{kind}_time_ratio", "ratio", "time of a lookup with a node down, relative to the time before; median of pairs", ratio))
        rows.append(Figure(f"away_{kind}_p99_ratio", "ratio", "the same of the 99th percentile", ratio))
        rows.append(Figure(f"away_{kind}_slow", "lookups", "lookups slower than 1 s with a node down", Target("<=", 0)))
    return rows


class Lookups:
    """The measurement: from one node, while another one is away."""

    def __init__(self, lab: Lab, node: Node, lost: Node, network: str, name: str) -> None:
        self.lab = lab
        self.node = node
        self.lost = lost
        self.name = name
        self.networks = {"getent": "getent", "musl": "bridge", "musl_network": network}

    def prepare(self) -> None:
        """Bring the image with musl, if the node has none."""
        if not self.node.run(f"docker images -q {MUSL}"):
            self.node.run("docker load -q", data=SAMPLES.read_bytes(), timeout=120)

    @contextlib.contextmanager
    def away(self) -> t.Iterator[None]:
        """Cut the other node off, until the rest of the cluster has noticed and has a leader."""
        chains = ("PREROUTING -i eth0", "POSTROUTING -o eth0")
        self.lost.run("; ".join(f"iptables -t mangle -I {chain} -m comment --comment bench -j DROP" for chain in chains))
        try:
            self._wait_for_member("failed")
            yield
        finally:
            self.lost.run("; ".join(f"iptables -t mangle -D {chain} -m comment --comment bench -j DROP" for chain in chains))
            self._wait_for_member("alive")

    def _wait_for_member(self, state: str) -> None:
        look = f"consul members | grep -qE '^{self.lost.name} .* {state} ' && curl -sf http://127.0.0.1:8500/v1/status/leader | grep -q :"
        wait_for(lambda: self.node.run(f"{{ {look}; }} && echo yes", check=False) == "yes", 90, f"{self.lost.name} is {state}", 0.5)

    def ask(self, kind: str, count: int) -> list[float]:
        """Look up; return the milliseconds of each lookup."""
        report = self.node.program("lookups.py", self.networks[kind], self.name, str(count), MUSL, timeout=count * 5 + 60)
        if report["failed"] or len(report["milliseconds"]) != count:
            raise LabError(f"{report['failed']} of {len(report['milliseconds'])} lookups failed on {self.node.name} ({kind})")
        return t.cast("list[float]", report["milliseconds"])


def measure(lookups: Lookups, outcome: Outcome, rounds: int, count: int) -> dict[str, dict[str, list[float]]]:
    """Measure every kind in both states, in turn, and note the figures; return the 99th percentiles by state and kind."""
    lookups.prepare()
    found: dict[str, dict[str, list[list[float]]]] = {state: {kind: [] for kind in KINDS} for state in ("up", "away")}
    for kind in KINDS:
        lookups.ask(kind, 20)
    for _round in range(rounds):
        for kind in KINDS:
            found["up"][kind].append(lookups.ask(kind, count))
        with lookups.away():
            for kind in KINDS:
                found["away"][kind].append(lookups.ask(kind, count))
    tails: dict[str, dict[str, list[float]]] = {state: {} for state in found}
    for kind in KINDS:
        means: dict[str, list[float]] = {}
        for state in found:
            runs = found[state][kind]
            means[state] = [sum(run) / len(run) for run in runs]
            rates = outcome.add_series(f"{state}_{kind}", "lookups/s", [1000 / mean for mean in means[state]])
            outcome.figures.set(f"{state}_{kind}_qps", rates.summary().median)
            tails[state][kind] = [percentile(run, 0.99) for run in runs]
            outcome.add_series(f"{state}_{kind}_p99", "ms", tails[state][kind])
            outcome.figures.set(f"{state}_{kind}_p99_ms", percentile(tails[state][kind], 0.5))
        for name, values in (("time", means), ("p99", {state: tails[state][kind] for state in found})):
            ratios = [away / up for away, up in zip(values["away"], values["up"])]
            outcome.figures.set(f"away_{kind}_{name}_ratio", percentile(ratios, 0.5))
        outcome.figures.set(f"away_{kind}_slow", sum(1 for run in found["away"][kind] for one in run if one > 1000))
    return tails
