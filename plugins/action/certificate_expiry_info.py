# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find certificates of a host that end soon."""

from __future__ import annotations

import datetime
import typing as t

from ansible.plugins.action import ActionBase

from ..plugin_utils._certificates.expiry import expiry

MODULE = "trinode.platform.certificate_expiry_info"


class ActionModule(ActionBase):
    """Reads the certificates on the node, and decides on the control node, which can parse them."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            read = self._execute_module(MODULE, self._task.args, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if read.get("failed"):
            return {**result, **read}
        limit = int(self._task.args.get("days", 30))
        found = expiry(read["certificates"], limit, datetime.datetime.now(datetime.timezone.utc))
        return {**result, "changed": False, "days": found.days, "ending": [*found.ending, *read["unreadable"]]}
