# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find mistyped role variables before any role runs."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ansible.errors import AnsibleActionFail

from ..plugin_utils._action.control import ControlAction
from ..plugin_utils._preflight.encrypted_values import without_secrets
from ..plugin_utils._preflight.inventory_rules import Problem
from ..plugin_utils._preflight.role_variables import RoleSpec, load_roles
from ..plugin_utils._preflight.variable_check import ROLES, VariableCheck, role_defaults

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


class ActionModule(ControlAction):
    """Compares, and changes nothing."""

    ARGUMENTS: t.ClassVar = {
        "roles": {"type": "list", "elements": "str", "default": []},
        "shared": {"type": "dict", "default": {}},
        "ignored": {"type": "list", "elements": "str", "default": []},
        "report_only": {"type": "bool", "default": False},
    }

    def answer(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the action."""
        host = str(self.variables["inventory_hostname"])
        available = load_roles(ROLES)
        wanted = short(args["roles"]) or set(available)
        if missing := wanted - set(available):
            raise AnsibleActionFail(f"{COLLECTION} has no role {', '.join(sorted(missing))}; it has {', '.join(available)}")
        specs = [*available.values(), *(RoleSpec(name, options) for name, options in args["shared"].items())]
        defaults = role_defaults(self._loader, specs)
        check = VariableCheck(specs, wanted | set(args["shared"]), args["ignored"], defaults)
        # Without play, task and role: inventory, --extra-vars, and what earlier plays set. Nothing of what the playbook passes.
        defined = self.variables["hostvars"].raw_get(host)
        templar = self._templar.copy_with_new_env(available_variables={**defaults, **self.variables})
        found = check.problems(defined, templar)
        named = without_secrets((Problem(host, **one) for one in found), {host: defined})
        problems = [{"check": one.check, "message": one.message, "remedy": one.remedy} for one in named]
        result: dict[str, t.Any] = {"changed": False, "problems": problems}
        if problems and not args["report_only"]:
            lines = [f"{number}. {host}: {one['message']}; {one['remedy']}." for number, one in enumerate(problems, start=1)]
            result.update(failed=True, msg="\n".join(["Variables that no role understands. Nothing was changed.", *lines]))
        return result
