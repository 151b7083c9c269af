# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host could not be read, and what to do about it. Private to the collection, pure."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from .inventory_rules import Problem

_UNREACHED = "cannot be reached by Ansible"
_UNREAD = "cannot be read"
#: What Ansible, ssh or sudo says, and the remedy. The first that matches counts.
_KNOWN = (
    (
        r"(Missing|Incorrect) \S+ password|password is required|no new privileges",
        _UNREAD,
        "call ansible-playbook with -K and enter the sudo password, or let ansible_user use sudo without one",
    ),
    (
        r"is not in the sudoers file|not allowed to execute|may not run sudo",
        _UNREAD,
        "let ansible_user use sudo there",
    ),
    (
        r"Host key verification failed|IDENTIFICATION HAS CHANGED|authenticity of host",
        _UNREACHED,
        "log in there by ssh once and compare the key; for a host that was installed again: ssh-keygen -R ADDRESS first",
    ),
    (
        r"Permission denied|Too many authentication failures|Invalid/incorrect password",
        _UNREACHED,
        "correct ansible_user, put its key there (ssh-copy-id) and into your agent (ssh-add), or call ansible-playbook with -k",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        _UNREACHED,
        "set ansible_host of this host to its address",
    ),
    (
        r"No python interpreters found|python[\d.]*: (command )?not found|interpreter.*(not found|No such file)",
        _UNREAD,
        "install Python 3.9 or later there, or name it in ansible_python_interpreter",
    ),
)


def failure(result: Mapping[str, t.Any]) -> str:
    """Return why a task failed, in one line."""
    parts = [str(result.get(key) or "") for key in ("msg", "module_stderr")]
    text = ": ".join(" ".join(part.split()).rstrip(".") for part in parts if part.strip()) or "no answer"
    text = text.removeprefix("Task failed: ")
    return text if len(text) <= 400 else f"{text[:200]} ... {text[-195:]}"


def _judged(result: Mapping[str, t.Any]) -> tuple[str, str]:
    text = failure(result)
    for pattern, state, remedy in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE):
            return state, remedy
    if result.get("unreached") or result.get("unreachable"):
        return _UNREACHED, "correct ansible_host, ansible_user or the network"
    return _UNREAD, "see that Python 3.9 or later is installed there and that ansible_user may become root"


def connection_problems(results: Mapping[str, Mapping[str, t.Any]]) -> list[Problem]:
    """Return why there are no facts of these hosts; hosts with the same reason together."""
    joined: dict[tuple[str, str, str], list[str]] = {}
    for host, result in results.items():
        joined.setdefault((*_judged(result), failure(result)), []).append(host)
    return [
        Problem(hosts[0], "connection", f"{' and '.join(', '.join(hosts).rsplit(', ', 1))} {state}: {reason}", remedy)
        for (state, remedy, reason), hosts in joined.items()
    ]
