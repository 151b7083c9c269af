# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host could not be read."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.connection import connection_problems


@pytest.mark.parametrize(
    ("result", "state", "remedy"),
    [
        ({"msg": "Task failed: Missing sudo password"}, "cannot be read: Missing sudo password", "with -K"),
        ({"msg": "Incorrect sudo password"}, "cannot be read", "with -K"),
        ({"msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required"}, "cannot be read", "with -K"),
        ({"msg": "x", "module_stderr": "ops is not in the sudoers file."}, "cannot be read", "let ansible_user use sudo"),
        ({"msg": "Host key verification failed.", "unreached": True}, "cannot be reached", "ssh-keygen -R"),
        ({"msg": "ops@192.0.2.1: Permission denied (publickey,password).", "unreached": True}, "cannot be reached", "-k"),
        ({"msg": "ssh: Could not resolve hostname consul-1", "unreached": True}, "cannot be reached", "set ansible_host"),
        ({"msg": "No route to host", "unreached": True}, "cannot be reached", "or the network"),
        ({"msg": "/bin/sh: 1: /usr/bin/python3: not found"}, "cannot be read", "install Python 3.9"),
        ({}, "cannot be read: no answer", "Python 3.9"),
    ],
)
def test_reasons(result: dict[str, t.Any], state: str, remedy: str) -> None:
    (problem,) = connection_problems({"n1": result})
    assert problem.message.startswith(f"n1 {state}"), problem
    assert remedy in problem.remedy, problem


def test_hosts_with_the_same_reason_are_one_problem() -> None:
    missing, gone = {"msg": "Missing sudo password"}, {"msg": "No route to host", "unreached": True}
    found = connection_problems({"n1": missing, "n2": gone, "n3": missing})
    assert [one.message.partition(":")[0] for one in found] == ["n1 and n3 cannot be read", "n2 cannot be reached by Ansible"]
