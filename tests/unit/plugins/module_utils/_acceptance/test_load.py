# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load: bounded, counted, and honest about failures."""

from __future__ import annotations

import time

from ansible_collections.trinode.platform.plugins.module_utils._acceptance.load import Load, Target


def finished(load: Load) -> None:
    deadline = time.monotonic() + 10
    while any(thread.is_alive() for thread in load._threads):
        assert time.monotonic() < deadline, "the load did not end by itself"
        time.sleep(0.01)


def test_it_ends_at_the_limit_and_counts_every_failure() -> None:
    def ask(number: int) -> str:
        if number == 3:
            raise ConnectionResetError("gone")
        return "status 502" if number == 5 else ""

    load = Load([Target("http a", 1000, ask), Target("http b", 1000, lambda _number: "")], seconds=10, requests=20)
    load.start()
    finished(load)
    assert load.results["http a"]["requests"] == 20
    assert load.results["http a"]["failed"] == 2
    assert "gone" in load.results["http a"]["errors"][0]
    assert "status 502" in load.results["http a"]["errors"][1]
    assert load.results["http b"]["failed"] == 0


def test_it_ends_in_time() -> None:
    load = Load([Target("a", 100, lambda _number: "")], seconds=0.2, requests=10**6)
    load.start()
    finished(load)
    assert 1 <= load.results["a"]["requests"] <= 30


def test_stop_waits_for_the_running_request() -> None:
    done: list[int] = []

    def ask(number: int) -> str:
        time.sleep(0.05)
        done.append(number)
        return ""

    load = Load([Target("a", 1000, ask)], seconds=10, requests=1000)
    load.start()
    while not done:
        time.sleep(0.005)
    load.stop()
    assert load.results["a"]["requests"] == len(done)
