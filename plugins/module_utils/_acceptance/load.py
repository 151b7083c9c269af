# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small, bounded load on the edges that notes every failed request with its time. Private to the collection."""

from __future__ import annotations

import http.client
import threading
import time
import typing as t

from .tools import AcceptanceError

SLOW_SECONDS = 1.0
_ERRORS_KEPT = 5


class Target(t.NamedTuple):
    """One kind of request to one edge. The question returns a text when the answer is wrong, else nothing."""

    name: str
    rate: float
    ask: t.Callable[[int], str]


class Load:
    """Sends each target's requests at its rate, one after another, until it is stopped or a limit is reached."""

    def __init__(self, targets: t.Sequence[Target], seconds: float, requests: int) -> None:
        self._targets = targets
        self._end = time.monotonic() + seconds
        self._limit = requests
        self._started = time.monotonic()
        self._stop = threading.Event()
        self.results: dict[str, dict[str, t.Any]] = {target.name: {"requests": 0, "failed": 0, "slow": 0, "slowest": 0.0, "errors": []} for target in targets}
        self._threads = [threading.Thread(target=self._work, args=(target,), daemon=True) for target in targets]

    def elapsed(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._started

    def start(self) -> None:
        """Begin."""
        self._started = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait until every request that runs has its answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def _work(self, target: Target) -> None:
        result = self.results[target.name]
        due = time.monotonic()
        while not self._stop.is_set() and time.monotonic() < self._end and result["requests"] < self._limit:
            began = time.monotonic()
            try:
                problem = target.ask(result["requests"])
            except (AcceptanceError, OSError, ValueError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            result["requests"] += 1
            result["slow"] += took > SLOW_SECONDS
            result["slowest"] = round(max(result["slowest"], took), 3)
            if problem:
                result["failed"] += 1
                if len(result["errors"]) < _ERRORS_KEPT:
                    result["errors"].append(f"at {began - self._started:.2f} s, after {took:.2f} s: {problem[:300]}")
            # A slow answer does not make a burst afterwards: the next request is never due earlier than now.
            due = max(due + 1 / target.rate, time.monotonic())
            self._stop.wait(max(0.0, due - time.monotonic()))
