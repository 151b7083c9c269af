# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find mistyped role variables before any role runs."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.trinode.platform.plugins.plugin_utils._role_variables import RoleSpec, load_roles
from ansible_collections.trinode.platform.plugins.plugin_utils._variable_check import ROLES, VariableCheck, role_defaults

COLLECTION = "trinode.platform"


def short(names: Iterable[str]) -> set[str]:
    """Names of roles without that of the collection."""
    found = set()
    for name in names:
        collection, _dot, role = name.rpartition(".")
        if collection not in ("", COLLECTION):
            raise AnsibleActionFail(f"{name} is no role of {COLLECTION}")
        found.add(role)
    return found


class ActionModule(ActionBase):
    """Compares; needs no connection and changes nothing."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Entry point of the action."""
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            argument_spec={
                "roles": {"type": "list", "elements": "str", "default": []},
                "shared": {"type": "dict", "default": {}},
                "ignored": {"type": "list", "elements": "str", "default": []},
                "report_only": {"type": "bool", "default": False},
            }
        )
        host = str(task_vars["inventory_hostname"])
        available = load_roles(ROLES)
        wanted = short(args["roles"]) or set(available)
        if missing := wanted - set(available):
            raise AnsibleActionFail(f"{COLLECTION} has no role {', '.join(sorted(missing))}; it has {', '.join(available)}")
        specs = [*available.values(), *(RoleSpec(name, options) for name, options in args["shared"].items())]
        defaults = role_defaults(self._loader, specs)
        check = VariableCheck(specs, wanted | set(args["shared"]), args["ignored"], defaults)
        # Without play, task and role: inventory, --extra-vars, and what earlier plays set. Nothing of what the playbook passes.
        defined = task_vars["hostvars"].raw_get(host)
        problems = check.problems(defined, self._templar.copy_with_new_env(available_variables={**defaults, **task_vars}))
        result.update(changed=False, problems=problems)
        if problems and not args["report_only"]:
            lines = [f"{number}. {host}: {one['message']}; {one['remedy']}." for number, one in enumerate(problems, start=1)]
            result.update(failed=True, msg="\n".join(["Variables that no role understands. Nothing was changed.", *lines]))
        return result
