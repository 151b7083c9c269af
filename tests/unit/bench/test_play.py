# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible prints at the end of a run, and how the run is made."""

from __future__ import annotations

import os
import sys

import pytest

from bench import play
from bench.lab import Lab, LabError
from bench.options import Options
from bench.play import Recap, TaskTime
from bench.suites.converge import ConvergeBench, bare_name, shortened

OUTPUT = """\
TASK [trinode.platform.nginx : Install nginx] **********************************
Saturday 28 November 2026  10:00:00 +0000 (0:00:01.500)       0:00:12.000 ******
ok: [consul-1]

PLAY RECAP *********************************************************************
consul-1                   : ok=61   changed=2    unreachable=0    failed=0    skipped=20   rescued=0    ignored=0
consul-3                   : ok=40   changed=0    unreachable=1    failed=3    skipped=31   rescued=0    ignored=0


TASKS RECAP ********************************************************************
Saturday 28 November 2026  10:00:03 +0000 (0:00:00.065)       0:00:31.123 ******
===============================================================================
trinode.platform.consul_server : Run - or leave - the agent ----------- 12.30s
Gathering Facts --------------------------------------------------------- 3.01s
trinode.platform.docker_daemon_dns : Install Docker, which has a name that is wider than the screen --- 2.50s
Gathering Facts --------------------------------------------------------- 1.00s
"""


def test_the_times_of_the_tasks() -> None:
    assert play.parse_tasks(OUTPUT) == [
        TaskTime("trinode.platform.consul_server : Run - or leave - the agent", 12.3),
        TaskTime("Gathering Facts", 3.01),
        TaskTime("trinode.platform.docker_daemon_dns : Install Docker, which has a name that is wider than the screen", 2.5),
        TaskTime("Gathering Facts", 1.0),
    ]
    with pytest.raises(ValueError, match="printed no times of its tasks: nothing"):
        play.parse_tasks("nothing")


def test_the_recap() -> None:
    hosts = play.parse_recap(OUTPUT)
    assert hosts == {"consul-1": Recap(2, 0, 0), "consul-3": Recap(0, 3, 1)}
    assert play.Run(1.0, [], hosts).changed == 2


def test_the_slowest_tasks_are_those_of_the_median_run() -> None:
    runs = [
        [TaskTime("steady", 2.0), TaskTime("facts", 1.5), TaskTime("facts", 1.0)],
        [TaskTime("once", 30.0), TaskTime("steady", 2.2), TaskTime("facts", 2.5)],
        [TaskTime("steady", 2.1), TaskTime("facts", 2.6)],
    ]
    assert play.slowest(runs, 2) == [("facts", [2.5, 2.5, 2.6]), ("steady", [2.0, 2.2, 2.1])]
    assert play.slowest(runs, 9)[-1] == ("once", [30.0])
    assert play.slowest([], 3) == []


def test_the_environment_is_that_of_the_nodes_and_of_no_other_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", "/elsewhere")
    monkeypatch.setenv("LAB_NAME", "another")
    monkeypatch.delenv("ARTIFACT_MIRROR", raising=False)
    made = play.environment("some-bare", "172.31.7")
    assert "ANSIBLE_COLLECTIONS_PATH" not in made
    assert made["LAB_NAME"] == "some-bare"
    assert made["LAB_NETWORK"] == "172.31.7"
    assert made["ARTIFACT_MIRROR"] == str(play.ROOT / "artifacts")
    assert made["PATH"].startswith(f"{play.ROOT}/.venv/bin{os.pathsep}")


def test_a_program_that_does_not_end_is_ended_with_what_it_started() -> None:
    assert play.call([sys.executable, "-c", "import os; print(os.environ['LAB_NAME']); raise SystemExit(3)"], "a", "b", 30) == (3, "a\n")
    with pytest.raises(LabError, match=r"did not end within 0\.2 s"):
        play.call([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"], "a", "b", 0.2)


def test_bare_nodes_are_never_those_that_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, str]] = []
    monkeypatch.setattr("bench.suites.converge.demo", lambda *words: calls.append(words))
    bench = ConvergeBench(Lab("given", ()), Options((), 1, lambda _: None, bare_network="172.31.7"))

    class Stop(Exception):
        pass

    with pytest.raises(Stop), bench.bare_nodes():
        raise Stop
    assert calls == [(step, "given-bare", "172.31.7") for step in ("down", "nodes", "down")]
    assert bare_name("given") not in ("given", "")


def test_the_report_names_the_slowest_tasks_and_runs_that_changed_something() -> None:
    bench = ConvergeBench(Lab("given", ()), Options((), 1, lambda _: None))
    runs = [play.Run(seconds, play.parse_tasks(OUTPUT), play.parse_recap(OUTPUT)) for seconds in (30.0, 34.0)]
    bench.runs = {"first": runs[:1], "second": runs, "one changed variable": runs}
    assert bench.series("second", runs) == 32.0
    bench.report()
    assert [table.title for table in bench.outcome.tables] == [f"Slowest tasks: {kind}" for kind in bench.runs]
    assert bench.outcome.tables[1].rows[0] == ["trinode.platform.consul_server : Run - or leave - the agent", 12.3, 12.3, 12.3, 2]
    assert bench.outcome.notes == ["Runs that had nothing to do (second) reported changes: 2, 2."]
    assert [row.label for row in bench.outcome.panels[1].rows][:2] == ["Run - or leave - the agent", "Gathering Facts"]


def test_names_of_tasks_fit_beside_a_bar() -> None:
    assert shortened("trinode.platform.nginx : Install nginx") == "Install nginx"
    assert len(shortened("a : " + 60 * "x")) == 36
