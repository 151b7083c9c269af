# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep or forget a secret on the control node."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.trinode.platform.plugins.plugin_utils._secret_store import SecretError, loader_store, random_value


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
            argument_spec={
                "name": {"type": "str", "required": True},
                "directory": {"type": "path", "required": True},
                "value": {"type": "str", "no_log": True},
                "kind": {"type": "str", "choices": ["uuid", "key"], "default": "uuid"},
                "state": {"type": "str", "choices": ["present", "absent", "renewed"], "default": "present"},
            },
            required_if=[("state", "present", ("value",))],
        )
        try:
            store = loader_store(self._loader, args["directory"], bool(self._task.check_mode))
            if args["state"] == "renewed":
                store.require_begun()
            if args["state"] == "absent":
                changed = store.remove(args["name"])
            else:
                changed = store.put(args["name"], args["value"] if args["state"] == "present" else random_value(args["kind"]))
        except SecretError as error:
            result.update(failed=True, msg=str(error))
            return result
        result.update(changed=changed)
        return result
