# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard that keeps test nodes off this machine's own networks, and the runner of the stages."""

from __future__ import annotations

import importlib.util
import ipaddress
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


lab_network = load("lab_network")
stages = load("stages")
WANTED = ipaddress.IPv4Network("192.168.0.0/24")


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ({"dst": "default", "dev": "eth0"}, False),
        ({"dst": "192.168.1.0/24", "dev": "eth0"}, False),
        ({"dst": "192.168.0.0/24", "dev": "wlan0"}, True),
        ({"dst": "192.168.0.17", "dev": "tun0"}, True),
        ({"dst": "192.168.0.0/16", "dev": "vpn0"}, True),
        ({"dst": "192.168.0.0/24", "dev": "br-own"}, False),
    ],
)
def test_overlap(route: dict[str, str], found: bool) -> None:
    assert bool(lab_network.overlaps(WANTED, [route], {"br-own"})) is found


def test_a_docker_network_is_named() -> None:
    found = ["192.168.0.0/24 on br-0123456789ab", "192.168.0.0/16 on wlan0"]
    listing = "0123456789abcdef0123 trinode-faults\nfedcba9876543210 bridge\n"
    first, second = lab_network.with_networks(found, listing)
    assert first == "192.168.0.0/24 on br-0123456789ab (Docker network trinode-faults: 'docker network rm trinode-faults' once it is unused)"
    assert second == found[1]


def test_stages_need_only_stages_that_exist_and_do_not_wait_for_each_other() -> None:
    done: set[str] = set()
    for name in stages.closure(stages.STAGES):
        assert set(stages.STAGES[name].needs) <= set(stages.STAGES)
    pending = dict(stages.STAGES)
    while pending:
        ready = [name for name, stage in pending.items() if set(stage.needs) <= done]
        assert ready, f"these wait for each other: {sorted(pending)}"
        for name in ready:
            done.add(name)
            del pending[name]


def test_every_goal_is_made_of_stages() -> None:
    for goal, names in stages.GOALS.items():
        assert set(names) <= set(stages.STAGES), goal
    assert set(stages.GOALS["test-all"]) > set(stages.GOALS["test"])
    # The parts of "default" are run by it.
    assert set(stages.closure(stages.GOALS["test-all"])) >= {name for name, stage in stages.STAGES.items() if stage.tests} - set(stages.PARTS)


def test_every_command_of_a_stage_exists_and_may_be_run() -> None:
    for name, stage in stages.STAGES.items():
        command = ROOT / stage.command.split()[0]
        assert command.is_file() and command.stat().st_mode & 0o111, f"{name}: {command}"


def test_count_reads_a_report(tmp_path: Path) -> None:
    report = tmp_path / "x.xml"
    report.write_text('<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1"/></testsuites>')
    assert stages.count(report) == stages.Counts(2, 2, 1)


def test_failures_are_told_in_a_line_each(tmp_path: Path) -> None:
    report = tmp_path / "x.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.a" name="test_one"><failure message="assert 1 == 2&#10;  more">'
        "the trace&#10;&#10;tests/a.py:7: &#10;_ _&#10;tests/a.py:9: AssertionError&#10;/usr/lib/x.py:3: Broken</failure>"
        "<system-out>a long story</system-out><system-err>error: no&#10;room</system-err></testcase>"
        '<testcase classname="tests.a" name="test_two"/>'
        f'<testcase classname="tests.b" name="test_three[x]"><error message="{"no such node " * 100}"/></testcase>'
        "</testsuite></testsuites>"
    )
    first, second = stages.failures(report)
    assert first == "tests.a::test_one: assert 1 == 2 more | tests/a.py:9: AssertionError | a long story error: no room"
    assert second.startswith("tests.b::test_three[x]: no such node no such node") and len(second) == stages.FAILURE_CHARACTERS
