# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One report of all hosts that cannot be reached or read."""

from __future__ import annotations

import typing as t

from ..plugin_utils._action.control import ControlAction, fail_once
from ..plugin_utils._preflight.connection import connection_problems
from ..plugin_utils._preflight.report import Report, sentence


class ActionModule(ControlAction):
    """Checks on the control node, and changes nothing."""

    ARGUMENTS: t.ClassVar = {
        "hosts": {"type": "list", "elements": "str", "required": True},
        "results": {"type": "list", "elements": "dict", "required": True},
        "allow_unreachable": {"type": "bool", "default": False},
    }

    def answer(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the action."""
        unread = {
            host: result
            for host, result in zip(args["hosts"], args["results"])
            if "ping" not in result and not (args["allow_unreachable"] and result.get("unreached"))
        }
        problems = connection_problems(unread)
        return {
            "changed": False,
            **(fail_once(sentence(Report(problems=problems), len(args["hosts"]))) if problems else {}),
        }
