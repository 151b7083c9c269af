# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep or forget a secret on the control node."""

from __future__ import annotations

import typing as t

from ..plugin_utils._action.control import ControlAction
from ..plugin_utils._secrets.store import SecretError, loader_store, random_value


class ActionModule(ControlAction):
    """Keeps, makes or removes one file."""

    ARGUMENTS: t.ClassVar = {
        "name": {"type": "str", "required": True},
        "directory": {"type": "path", "required": True},
        "value": {"type": "str", "no_log": True},
        "kind": {"type": "str", "choices": ["uuid", "key"], "default": "uuid"},
        "state": {"type": "str", "choices": ["present", "absent", "renewed"], "default": "present"},
    }
    REQUIRED_IF = (("state", "present", ("value",)),)

    def answer(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the action."""
        try:
            store = loader_store(self._loader, args["directory"], bool(self._task.check_mode))
            if args["state"] == "renewed":
                store.require_begun()
            if args["state"] == "absent":
                changed = store.remove(args["name"])
            else:
                changed = store.put(args["name"], args["value"] if args["state"] == "present" else random_value(args["kind"]))
        except SecretError as error:
            return {"failed": True, "msg": str(error)}
        return {"changed": changed}
