# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookups on a host and in its containers, in every way that waits differently: how many were slow, how many failed."""

from __future__ import annotations

import json
import shlex
import typing as t

import lab
import traffic

#: A name that is in the catalogue as long as one server is.
NAME = "consul.service.dc1.consul"
NETWORK = "lookups"
SLOW_SECONDS = 1.0
GLIBC, MUSL = "trinode/httpbackend:v1.0.0", "trinode/resolve-musl:1"

_REPORT = """
def report(times, failed):
    slow = [time for time in times if time > SLOW]
    print(json.dumps({"asked": len(times), "slow": len(slow), "failed": failed, "slowest": round(max(times), 3)}))
"""
# A new process for each lookup, as a script asks.
_GETENT = """
import json, subprocess, time
times, failed = [], 0
for _ in range(COUNT):
    began = time.monotonic()
    failed += subprocess.run(["getent", "ahostsv4", NAME], stdout=subprocess.DEVNULL).returncode != 0
    times.append(time.monotonic() - began)
report(times, failed)
"""
# One process, as a service asks.
_PROCESS = """
import json, socket, time
times, failed = [], 0
for _ in range(COUNT):
    began = time.monotonic()
    try:
        socket.getaddrinfo(NAME, 80, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        failed += 1
    times.append(time.monotonic() - began)
report(times, failed)
"""
# The program prints a line for each lookup; with a terminal it does so at once.
_MUSL = """
import json, subprocess, time
words = ["docker", "run", "--rm", "--tty", *OPTIONS, IMAGE, *["localhost", *[NAME] * COUNT]]
times, failed = [], 0
with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asking:
    # Until here the container started.
    asking.stdout.readline()
    began = time.monotonic()
    for line in asking.stdout:
        now = time.monotonic()
        times.append(now - began)
        failed += len(line.split()) < 2 or ": " in line
        began = now
report(times, failed)
"""


class Seen(t.NamedTuple):
    """The lookups of one kind."""

    node: str
    kind: str
    asked: int
    slow: int
    failed: int
    slowest: float


def prepare(*nodes: str) -> None:
    """Give the nodes the images and the network of the lookups."""
    for node in nodes:
        traffic.load_samples(node)
        lab.run(node, f"docker network inspect {NETWORK} >/dev/null 2>&1 || docker network create {NETWORK} >/dev/null")


def remove(*nodes: str) -> None:
    """Remove the network again."""
    for node in nodes:
        lab.run(node, f"docker network rm {NETWORK} >/dev/null 2>&1; true")


def _source(program: str, **values: object) -> str:
    head = "".join(f"{name} = {value!r}\n" for name, value in {"NAME": NAME, "SLOW": SLOW_SECONDS, **values}.items())
    return f"{head}{_REPORT}{program}"


def _commands(count: int) -> dict[str, str]:
    found = {
        "getent": f"python3 -c {shlex.quote(_source(_GETENT, COUNT=count))}",
        "process": f"python3 -c {shlex.quote(_source(_PROCESS, COUNT=count))}",
    }
    for network in ("bridge", NETWORK):
        options = ["--network", network]
        process = shlex.quote(_source(_PROCESS, COUNT=count))
        found[f"glibc, {network}"] = f"docker run --rm {' '.join(options)} --entrypoint python3 {GLIBC} -c {process}"
        found[f"musl, {network}"] = f"python3 -c {shlex.quote(_source(_MUSL, COUNT=count, OPTIONS=options, IMAGE=MUSL))}"
    return found


def ask(node: str, count: int) -> list[Seen]:
    """Look the name up so many times in each way, on the host and in containers of both kinds of networks."""
    found = []
    for kind, command in _commands(count).items():
        said = lab.run(node, command)
        seen = json.loads(said.splitlines()[-1])
        assert seen["asked"] == count, f"{node}, {kind}: {said}"
        found.append(Seen(node, kind, **seen))
    return found


def troubles(seen: t.Iterable[Seen]) -> list[str]:
    """Return the kinds of lookups of which some failed or were slow, for an error message."""
    return [str(one) for one in seen if one.failed or one.slow]
