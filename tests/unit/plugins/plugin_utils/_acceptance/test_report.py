# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From steps to verdicts and to the page."""

from __future__ import annotations

import copy
import re
import typing as t
from html.parser import HTMLParser

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._acceptance import report

NODES = ["n1", "n2", "n3"]
EDGES = ["n1", "n2"]
HOST = "httpfront.apps.example.org"
RUN: dict[str, t.Any] = {
    "run_id": "r1",
    "started": 1000.0,
    "finished": 1042.5,
    "nodes": NODES,
    "node_list": [
        {"name": name, "address": f"192.0.2.{number}", "consul": "server", "docker": True, "edge": name in EDGES} for number, name in enumerate(NODES)
    ],
    "edge_domain": "apps.example.org",
    "samples": True,
    "disruptive": True,
}


def step(check: int, status: str = "passed", node: str = "n1", **more: t.Any) -> dict[str, t.Any]:
    return {
        "check": check,
        "title": f"step of {check}",
        "node": node,
        "status": status,
        "command": "",
        "output": "",
        "message": "",
        "seconds": 0.1,
        "at": 1.0,
        **more,
    }


def results() -> list[dict[str, t.Any]]:
    """A run in which all is well."""
    found = []
    for phase, checks in report.PHASE_CHECKS.items():
        for number, node in enumerate(NODES):
            facts: dict[str, t.Any] = {}
            if phase == "base":
                facts = {"versions": {"consul": "1.22.5"}}
            if phase == "start":
                facts = {"containers": {"acceptance-httpbackend": {"instance": f"b{number}"}}}
            if phase == "traffic":
                facts = {"backend_instances": {"host": [f"b{number}"]}, "requests": {edge: {"sent": 6, "client": f"192.0.2.{number}"} for edge in EDGES}}
            if phase == "after":
                facts = {
                    "log": [
                        {"path": f"/acceptance/r1/{sender}/{edge}/{2 * number + one}", "client": f"192.0.2.{index}", "host": HOST}
                        for index, sender in enumerate(NODES)
                        for edge in EDGES
                        for one in range(2)
                    ]
                }
            found.append({"node": node, "phase": phase, "steps": [step(check, node=node) for check in checks], "facts": facts, "seconds": 1.0})
    return found


def verdict(document: dict[str, t.Any], number: int) -> str:
    return next(check["status"] for check in document["checks"] if check["number"] == number)


def test_all_is_well() -> None:
    document = report.evaluate(results(), RUN)
    assert document["failures"] == []
    assert document["result"] == "passed"
    assert document["counts"] == {"passed": 12, "failed": 0, "skipped": 0}
    assert document["seconds"] == 42.5
    assert document["versions"]["n1"] == {"consul": "1.22.5"}


def test_one_failed_step_fails_its_check_and_no_other() -> None:
    run = results()
    run[0]["steps"].append(step(2, "failed", message="it lists two"))
    document = report.evaluate(run, RUN)
    assert document["result"] == "failed"
    assert [check["number"] for check in document["checks"] if check["status"] == "failed"] == [2]
    assert document["failures"] == ["Check 2 failed on n1: step of 2: it lists two"]


def test_a_skipped_step_does_not_count_as_passed() -> None:
    run = results()
    run[0]["steps"].append(step(9, "skipped", message="skipped: acceptance_disruptive is false"))
    document = report.evaluate(run, RUN)
    assert verdict(document, 9) == "skipped"
    assert document["result"] == "incomplete"
    assert document["failures"] == []


def test_a_node_without_a_result_fails_what_it_had_to_prove() -> None:
    run = [result for result in results() if (result["phase"], result["node"]) != ("base", "n2")]
    document = report.evaluate(run, {**RUN, "errors": {"n2": "unreachable"}})
    assert [check["number"] for check in document["checks"] if check["status"] == "failed"] == [1, 2, 3, 4]
    assert "n2" in document["failures"][0]
    assert "unreachable" in document["failures"][0]


def test_no_result_at_all_is_no_pass() -> None:
    document = report.evaluate([], RUN)
    assert document["counts"]["passed"] == 0
    assert document["result"] == "failed"


def test_notes_alone_are_no_pass() -> None:
    run = results()
    for result in run:
        result["steps"] = [one if one["check"] != 2 else {**one, "status": "note"} for one in result["steps"]]
    document = report.evaluate(run, RUN)
    assert verdict(document, 2) == "failed"
    assert "Check 2 failed: it did not run" in document["failures"]


def test_an_error_of_a_phase_fails_the_run() -> None:
    run = results()
    run[0]["steps"].append(step(0, "failed", title="Phase base on n1", message="broken"))
    document = report.evaluate(run, RUN)
    assert document["failures"] == ["Phase base on n1: broken"]
    assert document["result"] == "failed"


def test_without_samples_eight_checks_are_skipped() -> None:
    run = [result for result in results() if result["phase"] == "base"]
    document = report.evaluate(run, {**RUN, "samples": False})
    assert document["counts"] == {"passed": 4, "failed": 0, "skipped": 8}
    assert document["failures"] == []


def change_log(run: list[dict[str, t.Any]], node: str, change: t.Callable[[list[dict[str, str]]], None]) -> None:
    change(next(result for result in run if result["phase"] == "after" and result["node"] == node)["facts"]["log"])


def test_an_instance_that_got_nothing_is_not_even() -> None:
    run = results()
    change_log(run, "n3", lambda log: log.clear())
    document = report.evaluate(run, RUN)
    assert verdict(document, 6) == "failed"
    assert "0 on n3" in document["failures"][0]


def test_requests_that_are_in_no_log_are_missed() -> None:
    run = results()
    change_log(run, "n1", lambda log: log.pop())
    assert verdict(report.evaluate(run, RUN), 6) == "failed"


@pytest.mark.parametrize(("key", "value"), [("client", "172.17.0.1"), ("host", "httpfront")])
def test_the_log_must_show_client_and_public_name(key: str, value: str) -> None:
    run = results()
    change_log(run, "n2", lambda log: log[0].update({key: value}))
    document = report.evaluate(run, RUN)
    assert verdict(document, 6) == "failed"
    assert value in document["failures"][0]


def test_requests_of_another_run_do_not_count() -> None:
    run = results()
    change_log(run, "n1", lambda log: log.append({"path": "/acceptance/r0/n1/n1/0", "client": "x", "host": "y"}))
    assert report.evaluate(run, RUN)["result"] == "passed"


def test_a_silent_backend_is_named() -> None:
    run = results()
    next(result for result in run if result["phase"] == "traffic" and result["node"] == "n2")["facts"]["backend_instances"] = {}
    document = report.evaluate(run, RUN)
    assert verdict(document, 5) == "failed"
    assert "b1 on n2" in document["failures"][0]


@pytest.mark.parametrize("broken", [[1], [{"node": "n1"}], [{"node": "n1", "phase": "base", "steps": None}]])
def test_something_else_is_an_error(broken: list[t.Any]) -> None:
    with pytest.raises(report.ReportError):
        report.evaluate(broken, RUN)


def test_evaluation_leaves_its_input_alone() -> None:
    run = results()
    before = copy.deepcopy(run)
    report.render_html(report.evaluate(run, RUN))
    assert run == before


class Page(HTMLParser):
    """Checks that every element is closed, and collects what would be fetched or run."""

    VOID: t.ClassVar = {"meta", "br", "hr", "img", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _value in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(document: dict[str, t.Any]) -> Page:
    parser = Page()
    parser.feed(report.render_html(document))
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    found = page(report.evaluate(results(), RUN))
    assert not found.tags & {"script", "img", "link", "iframe", "object"}
    assert all(link.startswith("#") for link in found.links)
    assert "url(" not in report._STYLE
    assert "@import" not in report._STYLE
    assert "All twelve checks passed" in found.text
    for title in report.CHECKS.values():
        assert title in found.text


def test_everything_is_escaped() -> None:
    evil = "</pre><script>alert('x')</script>&\"\x1b[31m\x00"
    run = results()
    run[0]["steps"].append(step(2, "failed", title=evil, node=evil, command=evil, output=evil, message=evil))
    run[0]["facts"]["versions"] = {evil: evil}
    document = report.evaluate(run, {**RUN, "run_id": evil, "node_list": [{"name": evil, "address": evil}]})
    found = page(document)
    assert "script" not in found.tags
    assert "alert('x')" in found.text
    assert not re.search(r"[\x00-\x08\x1b]", report.render_html(document))


def test_the_page_says_what_failed() -> None:
    run = results()
    run[0]["steps"].append(step(2, "failed", message="it lists two"))
    document = report.evaluate(run, RUN)
    found = page(document)
    assert "1 of 12 checks failed" in found.text
    assert "Check 2 failed on n1" in found.text


def test_summary_has_a_line_for_each_check() -> None:
    lines = report.summary(report.evaluate(results(), RUN))
    assert len(lines) == 13
    assert lines[-1] == "12 passed, 0 failed, 0 skipped, 42.5 s"
