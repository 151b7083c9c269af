# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to name servers: dnsperf, and libc's own lookups. All bounded in time, all from the nodes to the nodes."""

from __future__ import annotations

import json
import re
import typing as t

from bench.lab import Endpoint, Lab, LabError, Node
from bench.stats import percentile

PORT = 53
# Sockets, and outstanding queries at a time; processes that look up through libc.
CLIENTS, OUTSTANDING, PROCESSES = 8, 32, 8
# Answers that may be missing: one lost packet is no reason to give up a run.
MOST_LOST_SHARE = 0.01


class Asked(t.NamedTuple):
    """What a run saw. The latencies are in milliseconds, and only there when there was a fixed rate."""

    rate: float
    latencies: list[float]
    lost: int

    @property
    def p50(self) -> float:
        """The median."""
        return percentile(self.latencies, 0.5)

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return percentile(self.latencies, 0.99)


def parse_dnsperf(text: str) -> Asked:
    """Read what ``dnsperf``, with or without ``-v``, prints.

    Raises:
        ValueError: it is not that, or an answer was another than the wanted one.
    """

    def number(what: str) -> float:
        found = re.search(rf"^\s*{re.escape(what)}:\s+([\d.]+)", text, re.MULTILINE)
        if found is None:
            raise ValueError(f"dnsperf printed no '{what}': {text[-500:]}")
        return float(found[1])

    completed, lost, rate = number("Queries completed"), number("Queries lost"), number("Queries per second")
    codes = dict(re.findall(r"(\w+) (\d+) \([\d.]+%\)", text.partition("Response codes:")[2].partition("\n")[0]))
    if completed == 0 or int(codes.get("NOERROR", 0)) != completed:
        raise ValueError(f"dnsperf got {completed:g} answers with the codes {codes or '(none)'}, and not NOERROR only")
    latencies = [float(seconds) * 1000 for seconds in re.findall(r"^> NOERROR \S+ \S+ ([\d.]+)$", text, re.MULTILINE)]
    return Asked(rate, latencies, int(lost))


def parse_hits(text: str) -> float | None:
    """The share of questions that systemd-resolved answered from its cache, from ``resolvectl statistics``; nothing when there were none.

    Raises:
        ValueError: it is not that.
    """
    found = {what: re.search(rf"^\s*Cache {what}:\s*(\d+)\s*$", text, re.MULTILINE) for what in ("Hits", "Misses")}
    if found["Hits"] is None or found["Misses"] is None:
        raise ValueError(f"resolvectl printed no cache: {text[-500:]}")
    hits, misses = int(found["Hits"][1]), int(found["Misses"][1])
    return hits / (hits + misses) if hits + misses else None


class Place(t.NamedTuple):
    """From where questions come: a node, or the network and the resolver file of a container on it."""

    node: Node
    pid: int = 0
    resolver_file: str = ""

    def command(self, words: str, libc: bool = False) -> str:
        """A shell command there, run by the node's own programs."""
        if not self.pid:
            return words
        if libc:
            words = f"unshare --mount sh -c 'mount --bind {self.resolver_file} /etc/resolv.conf && exec {words}'"
        return f"nsenter --target {self.pid} --net {words}"


def _checked(asked: Asked, failed: int, what: str) -> Asked:
    count = len(asked.latencies) or asked.rate
    if failed > MOST_LOST_SHARE * count:
        raise LabError(f"{what}: {failed} questions got no answer, at {asked.rate:g} answers/s")
    return asked


def ask_server(lab: Lab, place: Place, server: str, questions: str, seconds: int, rate: int = 0) -> Asked:
    """Ask a server by UDP, with dnsperf.

    Args:
        server: loopback or an address of a node; or Docker's resolver, which passes questions on to the nodes.
        questions: a file on the node, in dnsperf's form. None of them may be about a name outside of Consul's domain: that would leave the nodes.
        rate: questions per second; 0 is as many as get answers.
    """
    lab.confirm([Endpoint(node, PORT) for node in lab.nodes])
    known = {node.address for node in lab.nodes}
    if server not in known and not server.startswith("127."):
        raise LabError(f"{server} is no node of this run: no questions go there")
    limits = f"-Q {rate} -v" if rate else ""
    words = f"dnsperf -s {server} -p {PORT} -d {questions} -c {CLIENTS} -q {OUTSTANDING} -l {seconds} {limits}"
    text = place.node.run(place.command(words), timeout=seconds + 60)
    try:
        asked = parse_dnsperf(text)
    except ValueError as error:
        raise LabError(f"{server} on {place.node.name}: {error}") from error
    return _checked(asked, asked.lost, f"{server} on {place.node.name}")


def ask_libc(lab: Lab, place: Place, program: str, name: str, seconds: int, rate: int = 0) -> Asked:
    """Look a name up through libc.

    Args:
        program: where bench/node/resolve.py lies on the node.
        rate: lookups per second; 0 is as many as get answers.
    """
    lab.confirm([Endpoint(node, PORT) for node in lab.nodes])
    words = f"/usr/bin/python3 {program} {name} {PROCESSES} {seconds} {rate}"
    report = json.loads(place.node.run(place.command(words, libc=True), timeout=seconds + 60))
    return _checked(Asked(report["answers"] / seconds, report["milliseconds"], report["failed"]), report["failed"], f"libc on {place.node.name}")
