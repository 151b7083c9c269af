# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dnsperf prints, where questions may go, and lookups through libc."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t

import pytest

from bench import names
from bench.lab import PROGRAMS, Lab, LabError, Node
from bench.names import Place

DNSPERF = """\
[Status] Stopping after 1.000000 seconds
{answers}[Status] Testing complete (time limit)

Statistics:

  Queries sent:         {completed}
  Queries completed:    {completed} (100.00%)
  Queries lost:         {lost} (0.00%)

  Response codes:       {codes}
  Average packet size:  request 37, response 53
  Run time (s):         2.004560
  Queries per second:   16971.804286

  Average Latency (s):  0.002792 (min 0.000035, max 0.031314)
"""

NODE = Node("consul-3", "lab-consul-3", "ccc", "172.31.88.131")


def test_dnsperf_is_read() -> None:
    answers = "".join(f"> NOERROR page.service.consul A 0.000{number:03d}\n" for number in range(1, 101))
    asked = names.parse_dnsperf(DNSPERF.format(answers=answers, completed=100, lost=1, codes="NOERROR 100 (100.00%)"))
    assert (asked.rate, asked.lost, len(asked.latencies)) == (16971.804286, 1, 100)
    assert asked.p50 == pytest.approx(0.0505)
    assert asked.p99 == pytest.approx(0.09901)


@pytest.mark.parametrize("codes", ["NOERROR 99 (99.00%), NXDOMAIN 1 (1.00%)", "SERVFAIL 100 (100.00%)", ""])
def test_a_wrong_answer_is_no_answer(codes: str) -> None:
    with pytest.raises(ValueError, match="and not NOERROR only"):
        names.parse_dnsperf(DNSPERF.format(answers="", completed=100, lost=0, codes=codes))


def test_what_is_not_of_dnsperf() -> None:
    with pytest.raises(ValueError, match="printed no 'Queries completed'"):
        names.parse_dnsperf("Error: unable to open file: questions")


def test_what_the_cache_of_resolved_is_good_for() -> None:
    text = "Transactions\nCurrent Transactions: 0\n\nCache\n  Current Cache Size: 1\n          Cache Hits: {}\n        Cache Misses: {}\n"
    assert names.parse_hits(text.format(3, 1)) == 0.75
    assert names.parse_hits(text.format(0, 0)) is None
    with pytest.raises(ValueError, match="printed no cache: Failed"):
        names.parse_hits("Failed to connect")


def test_from_where_questions_come() -> None:
    assert Place(NODE).command("dnsperf -s x", libc=False) == Place(NODE).command("dnsperf -s x", libc=True) == "dnsperf -s x"
    inside = Place(NODE, 77, "/var/lib/docker/containers/x/resolv.conf")
    assert inside.command("dnsperf -s x") == "nsenter --target 77 --net dnsperf -s x"
    assert inside.command("python3 p", libc=True) == (
        "nsenter --target 77 --net unshare --mount sh -c 'mount --bind /var/lib/docker/containers/x/resolv.conf /etc/resolv.conf && exec python3 p'"
    )


def test_no_question_goes_to_what_is_no_node_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Node, "run", lambda _self, command, **_options: asked.append(command) or "")
    lab = Lab("lab", [NODE])

    def refuse(_endpoints: t.Any) -> None:
        raise LabError("nothing is sent there")

    monkeypatch.setattr(lab, "confirm", refuse)
    with pytest.raises(LabError, match="nothing is sent there"):
        names.ask_server(lab, Place(NODE), NODE.address, "questions", 1)
    with pytest.raises(LabError, match="nothing is sent there"):
        names.ask_libc(lab, Place(NODE), "resolve.py", "x", 1)
    monkeypatch.setattr(lab, "confirm", lambda _endpoints: None)
    with pytest.raises(LabError, match=r"192\.0\.2\.1 is no node of this run"):
        names.ask_server(lab, Place(NODE), "192.0.2.1", "questions", 1)
    assert asked == []


def test_many_lost_questions_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab("lab", [NODE])
    monkeypatch.setattr(lab, "confirm", lambda _endpoints: None)
    for failed, right in ((0, True), (3, False)):
        report = json.dumps({"answers": 200, "failed": failed, "milliseconds": [1.0, 3.0] * 100})
        monkeypatch.setattr(Node, "run", lambda _self, _command, said=report, **_options: said)
        if right:
            assert names.ask_libc(lab, Place(NODE), "resolve.py", "x", 4, 50)[:1] == (50.0,)
        else:
            with pytest.raises(LabError, match="libc on consul-3: 3 questions got no answer"):
                names.ask_libc(lab, Place(NODE), "resolve.py", "x", 4, 50)


@pytest.mark.parametrize(("rate", "least", "most", "kept"), [("0", 5, 1_000_000, False), ("50", 10, 26, True)])
def test_the_program_that_looks_names_up(rate: str, least: int, most: int, kept: bool) -> None:
    done = subprocess.run([sys.executable, str(PROGRAMS / "resolve.py"), "localhost", "2", "0.5", rate], capture_output=True, check=True, text=True)
    report = json.loads(done.stdout)
    assert least <= report["answers"] <= most
    assert report["failed"] == 0
    assert len(report["milliseconds"]) == (report["answers"] if kept else 0)
