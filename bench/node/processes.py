# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node: memory and processor time of the processes of systemd units, with all that they started. Prints JSON.

Arguments: names of units. Sizes are in bytes, processor time in nanoseconds, both summed over the processes of a unit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys


def children() -> dict[int, list[int]]:
    """Process -> its children."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as handle:
                    parent = int(handle.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            found.setdefault(parent, []).append(int(name))
    return found


def tree(pid: int, family: dict[int, list[int]]) -> list[int]:
    """A process and its descendants."""
    result = [pid]
    for child in family.get(pid, []):
        result += tree(child, family)
    return result


def memory(pid: int) -> tuple[int, int]:
    """(proportional, resident) size."""
    sizes = {"Pss:": 0, "Rss:": 0}
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as handle:
        for line in handle:
            words = line.split()
            if words[0] in sizes:
                sizes[words[0]] = int(words[1]) * 1024
    return sizes["Pss:"], sizes["Rss:"]


def processor(pid: int) -> int:
    """Nanoseconds on a processor, over all threads that live."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="utf-8") as handle:
            total += int(handle.read().split()[0])
    return total


def main(units: list[str]) -> None:
    """Entry point."""
    family, report = children(), {}
    for unit in units:
        shown = subprocess.run(["systemctl", "show", "--value", "--property=MainPID", unit], stdout=subprocess.PIPE, check=True).stdout
        entry = {"pid": int(shown or 0), "processes": 0, "pss": 0, "rss": 0, "cpu_ns": 0}
        for pid in tree(entry["pid"], family) if entry["pid"] else []:
            try:
                pss, rss = memory(pid)
                used = processor(pid)
            except OSError:
                continue
            entry["processes"] += 1
            entry["pss"] += pss
            entry["rss"] += rss
            entry["cpu_ns"] += used
        report[unit] = entry
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
