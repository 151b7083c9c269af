# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node: looks a name up through libc, as every program there does, from several processes for some seconds. Prints JSON.

Arguments: the name, the number of processes, seconds, and lookups per second of all processes together (0: as fast as they can).
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import sys
import time


def work(name: str, seconds: float, pause: float, offset: float) -> tuple[list[float], int]:
    """Look up until the time is over; gives the times of the answers in milliseconds, and how many lookups failed."""
    times: list[float] = []
    failed = 0
    due = time.monotonic() + offset
    end = due + seconds
    while True:
        now = time.monotonic()
        if now >= end or (pause and due >= end):
            return times, failed
        if pause:
            if now < due:
                time.sleep(due - now)
            # From the moment at which it was due: a lookup that has to wait for the one before is a slow one.
            began, due = due, due + pause
        else:
            began = now
        try:
            socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
            times.append((time.monotonic() - began) * 1000)
        except OSError:
            failed += 1


def main(name: str, processes: str, seconds: str, rate: str) -> None:
    """Entry point."""
    count = int(processes)
    pause = count / float(rate) if float(rate) else 0.0
    with multiprocessing.Pool(count) as pool:
        found = pool.starmap(work, [(name, float(seconds), pause, pause * number / count) for number in range(count)], chunksize=1)
    times = [round(one, 4) for part, _ in found for one in part]
    print(json.dumps({"answers": len(times), "failed": sum(failed for _, failed in found), "milliseconds": times if pause else []}))


if __name__ == "__main__":
    main(*sys.argv[1:])
