# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the first secret of a site, where no node has a cluster with other ones."""

from __future__ import annotations

import os
import typing as t

from ..plugin_utils._action.control import ControlAction
from ..plugin_utils._secrets.git_guard import key_warning, keys_in_git, readable_in_git
from ..plugin_utils._secrets.site_secrets import git_warning, is_new_cluster, secrets_fault
from ..plugin_utils._secrets.store import SUFFIX, SecretError, loader_store
from ..plugin_utils._secrets.vault import loader_vault

FIRST = "consul_token_management"
AUTHORITY = "consul_ca"
# Servers that have never had ACLs make this one before anybody can ask them for a management token.
INITIAL = "consul_token_initial"


class ActionModule(ControlAction):
    """Compares what the agents have with the directory of the secrets."""

    ARGUMENTS: t.ClassVar = {
        "directory": {"type": "path", "required": True},
        "stages": {"type": "dict", "required": True},
        "left_out": {"type": "list", "elements": "str", "default": []},
        "servers": {"type": "list", "elements": "str", "default": []},
        "own_authority": {"type": "bool", "default": False},
        "lost": {"type": "bool", "default": False},
        "key_files": {"type": "list", "elements": "path", "default": []},
    }

    def answer(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the action."""
        try:
            store = loader_store(self._loader, args["directory"], bool(self._task.check_mode))
            needed = [FIRST] if args["own_authority"] else [FIRST, AUTHORITY]
            missing = [] if args["lost"] else [os.path.basename(store.path(name)) for name in needed if not os.path.exists(store.path(name))]
            fault = secrets_fault(store.directory, args["stages"], missing, store.begun(), args["left_out"])
            if fault:
                return {"failed": True, "msg": f"{fault}."}
            changed = not os.path.exists(store.path(FIRST))
            store.ensure(FIRST, "uuid")
            if is_new_cluster(args["stages"], args["servers"]):
                changed = changed or not os.path.exists(store.path(INITIAL))
                store.ensure(INITIAL, "uuid")
        except SecretError as error:
            return {"failed": True, "msg": str(error)}
        is_encrypted = loader_vault(self._loader).is_encrypted
        readable = readable_in_git(store.directory, is_encrypted, [f"*{SUFFIX}"])
        warnings = [git_warning(store.directory, readable)] if readable else []
        warnings += map(key_warning, keys_in_git(args["key_files"], is_encrypted))
        return {"changed": changed, **({"warnings": warnings} if warnings else {})}
