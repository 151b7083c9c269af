# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node: looks a name up one time after the other, by getent or by musl in a container. Prints JSON.

Arguments: ``getent`` or the network of the container, the name, how many lookups, and the image with musl.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time


def by_getent(name: str, count: int) -> tuple[list[float], int]:
    """Look up with a new process each time; return the milliseconds of all lookups, and how many failed."""
    times, failed = [], 0
    for _number in range(count):
        began = time.monotonic()
        status = subprocess.run(["getent", "ahostsv4", name], stdout=subprocess.DEVNULL, check=False).returncode
        times.append((time.monotonic() - began) * 1000)
        failed += status != 0
    return times, failed


def by_musl(network: str, name: str, count: int, image: str) -> tuple[list[float], int]:
    """Look up in one container. Its program prints a line for each lookup, at once because it has a terminal."""
    times, failed = [], 0
    # The first line ends the time in which the container starts.
    words = ["docker", "run", "--rm", "--tty", "--network", network, image, "localhost", *[name] * count]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asking:
        lines = iter(asking.stdout or [])
        next(lines, "")
        began = time.monotonic()
        for line in lines:
            now = time.monotonic()
            times.append((now - began) * 1000)
            failed += len(line.split()) < 2 or ": " in line
            began = now
    return times, failed


def main(kind: str, name: str, count: str, image: str) -> None:
    """Entry point."""
    times, failed = by_getent(name, int(count)) if kind == "getent" else by_musl(kind, name, int(count), image)
    print(json.dumps({"milliseconds": [round(one, 4) for one in times], "failed": failed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
