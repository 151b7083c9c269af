# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that cannot be read: each failure is printed once, in the report at the end."""

from __future__ import annotations

import pytest
from control_node import ARGUMENTS, PLAYBOOKS, Control, lines_thrice

#: Runs the commands for a host here, where sudo wants a password.
SUDO_ASKS = """#!/bin/sh
case "$*" in
    *{address}*) ;;
    *) echo "ssh: connect to host: Network is unreachable" >&2; exit 255 ;;
esac
for command; do :; done
PATH={bin}:$PATH exec sh -c "$command"
"""
SUDO = """#!/bin/sh
echo "sudo: a password is required" >&2
exit 1
"""


def test_hosts_that_do_not_answer_are_one_problem(control: Control) -> None:
    outcome = control.play("site.yml")
    assert outcome.status == 2
    assert outcome.calls
    assert outcome.written == []
    assert outcome.report.startswith("1 problem. Nothing was changed on any host. 1. consul-1, consul-2 and consul-3 cannot be reached")
    for text in ("UNREACHABLE", "...ignoring", "Traceback", "caused by"):
        assert text not in outcome.output, outcome.output
    assert outcome.output.count("Network is unreachable") == 1, outcome.output
    assert lines_thrice(outcome.output) == []
    # Before the report there is one line for each host and task.
    before = outcome.output.partition("[ERROR]")[0].splitlines()
    assert [line for line in before if line and not line.startswith(("PLAY", "TASK", "ok: [", "skipping: [", "[WARNING]"))] == []


def sudo_asks(control: Control, address: str) -> None:
    """Let the hosts with this in their address be reached, and want a password of sudo."""
    tools = control.place / "bin"
    (tools / "sudo").write_text(SUDO, encoding="utf-8")
    (tools / "sudo").chmod(0o755)
    (tools / "ssh").write_text(SUDO_ASKS.format(address=address, bin=tools), encoding="utf-8")


def test_a_forgotten_sudo_password_has_its_remedy(control: Control) -> None:
    sudo_asks(control, "192.0.2.2")
    outcome = control.play("site.yml")
    assert outcome.status == 2, outcome.output
    assert "2 problems." in outcome.report, outcome.output
    assert "consul-1 and consul-3 cannot be reached" in outcome.report, outcome.output
    assert "consul-2 cannot be read: Missing sudo password; call ansible-playbook with -K" in outcome.report, outcome.output
    assert outcome.output.count("Missing sudo password") == 1, outcome.output
    assert "undefined" not in outcome.output, outcome.output
    assert lines_thrice(outcome.output) == []


def begun(control: Control) -> None:
    """Give the site its secrets, which some playbooks require first."""
    (control.site / "secrets").mkdir()
    (control.site / "secrets" / "consul_ca.txt").write_text("x", encoding="utf-8")


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_reports_a_forgotten_sudo_password_once(control: Control, playbook: str) -> None:
    begun(control)
    sudo_asks(control, "192.0.2.")
    outcome = control.play(playbook, *ARGUMENTS.get(playbook, []))
    assert outcome.status == 2, outcome.output
    assert outcome.report.startswith("1 problem. Nothing was changed on any host. 1. consul-"), outcome.output
    assert " cannot be read: Missing sudo password; call ansible-playbook with -K" in outcome.report, outcome.output
    assert outcome.output.count("Missing sudo password") == 1, outcome.output
    assert "undefined" not in outcome.output and "Traceback" not in outcome.output, outcome.output
    # The preflight compares the keys of joined sites, and makes this site's own one, where git does not take it.
    assert {*outcome.written} <= {f"secrets/{name}" for name in ("wan_share.txt", "inventory.yml", ".gitignore")}
    assert lines_thrice(outcome.output) == []


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_reports_hosts_that_do_not_answer(control: Control, playbook: str) -> None:
    begun(control)
    outcome = control.play(playbook, *ARGUMENTS.get(playbook, []))
    assert outcome.status != 0 and outcome.calls, outcome.output
    if playbook in ("check_expiry.yml", "remove_node.yml", "uninstall.yml"):
        # They go on without a host that is down.
        assert "Preflight found" not in outcome.output, outcome.output
        return
    assert outcome.report.startswith("1 problem. Nothing was changed on any host. 1. consul-"), outcome.output
    assert "cannot be reached" in outcome.report and outcome.output.count("Network is unreachable") == 1, outcome.output
