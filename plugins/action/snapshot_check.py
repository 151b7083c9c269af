# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a snapshot on the control node, which may be encrypted."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ..plugin_utils._secrets.snapshots import (
    SnapshotError,
    describe,
    read_snapshot,
)
from ..plugin_utils._secrets.vault import loader_vault


class ActionModule(ActionBase):
    """Works on the control node; needs no connection."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        result: dict[str, t.Any] = super().run(tmp, task_vars or {})
        _validation, args = self.validate_argument_spec(
            argument_spec={"file": {"type": "path", "required": True}, "program": {"type": "path", "required": True}}
        )
        try:
            data = read_snapshot(args["file"], loader_vault(self._loader))
            description = describe(args["file"], data, args["program"])
        except SnapshotError as error:
            message = f"The cluster was not touched: {error}. Give the path of a snapshot on the control node."
            return {**result, "failed": True, "msg": message}
        # The operator sees what is going to be restored, as with an assertion.
        result.update(changed=False, _ansible_verbose_always=True, msg=f"This snapshot is whole: {description}")
        return result
