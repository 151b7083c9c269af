# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that cannot be read: each failure is printed once, in the report at the end."""

from __future__ import annotations

from control_node import Control, lines_thrice

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


def test_a_forgotten_sudo_password_has_its_remedy(control: Control) -> None:
    tools = control.place / "bin"
    (tools / "sudo").write_text(SUDO, encoding="utf-8")
    (tools / "sudo").chmod(0o755)
    (tools / "ssh").write_text(SUDO_ASKS.format(address="192.0.2.2", bin=tools), encoding="utf-8")
    outcome = control.play("site.yml")
    assert outcome.status == 2, outcome.output
    assert "2 problems." in outcome.report, outcome.output
    assert "consul-1 and consul-3 cannot be reached" in outcome.report, outcome.output
    assert "consul-2 cannot be read: Missing sudo password; call ansible-playbook with -K" in outcome.report, outcome.output
    assert outcome.output.count("Missing sudo password") == 1, outcome.output
    assert "undefined" not in outcome.output, outcome.output
    assert lines_thrice(outcome.output) == []
