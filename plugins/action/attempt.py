# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module, and return why it could not be run."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Turns each failure into a result; Ansible would print it at once, and take the host out of the play."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            argument_spec={
                "module": {"type": "str", "required": True},
                "arguments": {"type": "dict", "default": {}},
            }
        )
        try:
            answer: dict[str, t.Any] = self._execute_module(module_name=args["module"], module_args=args["arguments"], task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            return {**result, "skipped": True, "unreached": True, "msg": str(error)}
        except AnsibleError as error:
            return {**result, "skipped": True, "msg": str(error)}
        # It is this action's arguments that were given.
        answer.pop("invocation", None)
        if answer.pop("unreachable", False):
            answer.update(skipped=True, unreached=True)
        if answer.pop("failed", False):
            answer.pop("exception", None)
            answer["skipped"] = True
        return {**result, **answer}
