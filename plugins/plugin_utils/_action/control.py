# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What actions have in common that work on the control node alone. Private to the collection."""

from __future__ import annotations

import abc
import typing as t
from collections.abc import Mapping, Sequence

from ansible.plugins.action import ActionBase


class ControlAction(ActionBase):
    """Reads the arguments, and needs no connection."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False
    #: The arguments, as of a module.
    ARGUMENTS: t.ClassVar[Mapping[str, t.Any]]
    REQUIRED_IF: t.ClassVar[Sequence[t.Any]] = ()
    #: The variables of the task.
    variables: dict[str, t.Any]

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        result: dict[str, t.Any] = super().run(tmp, task_vars or {})
        _validation, args = self.validate_argument_spec(
            argument_spec=dict(self.ARGUMENTS),
            required_if=list(self.REQUIRED_IF),
        )
        self.variables = task_vars or {}
        return {**result, **self.answer(args)}

    @abc.abstractmethod
    def answer(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the action."""


def fail_once(text: str) -> dict[str, t.Any]:
    """Return a failed result whose text is left to the line of the error.

    Ansible prints that and the result below it. The error keeps its line breaks whatever format the results have.
    """
    from ansible.module_utils._internal._messages import ErrorSummary, Event

    return {
        "failed": True,
        "exception": ErrorSummary(event=Event(msg=text)),
        "msg": f"{text.partition('.')[0]}, as listed.",
    }
