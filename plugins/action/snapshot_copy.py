# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a copy of a node's snapshot on the control node."""

from __future__ import annotations

import base64
import os
import typing as t

from ansible.plugins.action import ActionBase

from ..plugin_utils._secrets.snapshots import Kept, SnapshotError, keep_copy
from ..plugin_utils._secrets.vault import loader_vault


class ActionModule(ActionBase):
    """Reads on the node, writes on the control node."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            argument_spec={
                "src": {"type": "str", "required": True},
                "sha256": {"type": "str", "required": True},
                "directory": {"type": "path", "required": True},
                "keep": {"type": "int", "default": 48},
            }
        )
        if self._task.check_mode:
            return {**result, "changed": True}
        try:
            data = self._read(args["src"], task_vars)
            name, vault = os.path.basename(args["src"]), loader_vault(self._loader)
            kept = keep_copy(args["directory"], name, data, args["sha256"], vault, args["keep"])
        except SnapshotError as error:
            return {**result, "failed": True, "msg": f"{task_vars.get('inventory_hostname')}: {error}"}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return {**result, "changed": True, **self._answer(kept)}

    def _read(self, path: str, task_vars: dict[str, t.Any]) -> bytes:
        """Read a file of the node into memory."""
        context = self._connection._play_context
        former, context.no_log = context.no_log, True  # With -vvv, a connection shows what the node answers.
        try:
            read = self._execute_module("ansible.legacy.slurp", {"src": path}, task_vars=task_vars)
        finally:
            context.no_log = former
        if read.get("failed"):
            raise SnapshotError(f"{path} cannot be read: {read.get('msg', 'no reason given')}")
        return base64.b64decode(read["content"])

    @staticmethod
    def _answer(kept: Kept) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = {"path": kept.path, "removed": kept.removed, "encrypted": kept.encrypted}
        if kept.readable_in_git:
            directory, number = os.path.dirname(kept.path), len(kept.readable_in_git)
            warning = (
                f"{directory}: git has or would take {number} snapshots that are not encrypted and hold all tokens:"
                " add 'consul-*.snap' to its .gitignore, and remove them with 'git rm --cached'"
            )
            answer["warnings"] = [warning]
        return answer
