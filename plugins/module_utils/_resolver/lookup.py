# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the system's resolver for names, as a program that starts now would. Private to the collection."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import typing as t

# A process reads resolv.conf and nsswitch.conf once, so every question comes from a new one.
_PROGRAM = """
import json, socket, sys
try:
    found = socket.getaddrinfo(sys.argv[1], None, 0, socket.SOCK_STREAM)
    print(json.dumps({"addresses": list(dict.fromkeys(entry[4][0] for entry in found))}))
except OSError as exc:
    print(json.dumps({"error": str(exc.strerror or exc)}))
"""

POLL_SECONDS = 0.5


class Answer(t.NamedTuple):
    """What the resolver said: addresses, or an error."""

    addresses: list[str]
    error: str


def ask(name: str, timeout: float) -> Answer:
    """Ask the system's resolver once."""
    try:
        done = subprocess.run([sys.executable, "-c", _PROGRAM, name], capture_output=True, timeout=timeout, check=True, text=True)
    except subprocess.TimeoutExpired:
        return Answer([], f"no answer within {timeout:.0f} s")
    except subprocess.CalledProcessError as exc:
        return Answer([], exc.stderr.strip())
    said = json.loads(done.stdout)
    return Answer(said.get("addresses", []), said.get("error", ""))


def prove(names: t.Iterable[str], timeout: float, asking: t.Callable[[str, float], Answer] = ask) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Ask until every name has an address or the time is over.

    Returns:
        The addresses of the names that resolve, and what the resolver last said of those that do not.
    """
    deadline = time.monotonic() + timeout
    open_names = list(dict.fromkeys(names))
    found: dict[str, list[str]] = {}
    said: dict[str, str] = {}
    while open_names:
        for name in open_names:
            answer = asking(name, max(1.0, deadline - time.monotonic()))
            if answer.addresses:
                found[name] = answer.addresses
                said.pop(name, None)
            else:
                said[name] = answer.error
        open_names = [name for name in open_names if name not in found]
        if time.monotonic() + POLL_SECONDS >= deadline:
            break
        if open_names:
            time.sleep(POLL_SECONDS)
    return found, said
