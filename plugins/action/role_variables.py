# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find mistyped role variables before any role runs."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.trinode.platform.plugins.plugin_utils._role_variables import (
    RoleSpec,
    load_roles,
    owner,
    unknown_variables,
    without_requirements,
)

COLLECTION = "trinode.platform"
ROLES = Path(__file__).resolve().parents[2] / "roles"
# A value that needs one of these may be right although it cannot be known before the first task on the host.
_LATER = ("ansible_facts", "ansible_local", "hostvars", "lookup(", "query(", "q(")


def origin(*values: t.Any) -> str:
    """File and line in which a variable was written, when Ansible remembers it."""
    try:
        from ansible._internal._datatag._tags import Origin
    except ImportError:
        return ""
    for value in values:
        tag = Origin.get_tag(value)
        if tag is not None and tag.path:
            path = os.path.relpath(tag.path)
            path = tag.path if path.startswith("../..") else path
            return f"{path}:{tag.line_num}" if tag.line_num else str(path)
        if tag is not None and tag.description:
            return str(tag.description).strip("<>")
    return ""


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
        # Without play, task and role: inventory, --extra-vars, and what earlier plays set. Nothing of what the playbook passes.
        variables = task_vars["hostvars"].raw_get(host)
        # Facts that roles report are no input, also where a site has them injected as variables.
        facts = variables.get("ansible_facts") or {}
        defined = {str(name): (name, value) for name, value in variables.items() if name not in facts}
        problems = self._unknown(defined, specs, wanted | set(args["shared"]), args["ignored"])
        problems += self._wrong(defined, specs, wanted | set(args["shared"]), task_vars)
        result.update(changed=False, problems=problems)
        if problems and not args["report_only"]:
            lines = [f"{number}. {host}: {one['message']}; {one['remedy']}." for number, one in enumerate(problems, start=1)]
            result.update(failed=True, msg="\n".join(["Variables that no role understands. Nothing was changed.", *lines]))
        return result

    def _unknown(self, defined: Mapping[str, tuple[t.Any, t.Any]], specs: Sequence[RoleSpec], wanted: set[str], ignored: Sequence[str]) -> list[dict[str, str]]:
        problems = []
        for one in unknown_variables(defined, specs, ignored):
            if one.role and one.role not in wanted:
                continue
            where = origin(*defined[one.name])
            whose = "" if not one.role else (" of the platform" if one.role == "platform" else f" of the role {one.role}")
            problems.append(
                {
                    "check": "variable",
                    "message": f"{one.name}{f' ({where})' if where else ''} is no variable{whose}",
                    "remedy": f"did you mean {one.nearest}? Otherwise remove it" if one.nearest else "remove it",
                }
            )
        return problems

    def _wrong(
        self, defined: Mapping[str, tuple[t.Any, t.Any]], specs: Sequence[RoleSpec], wanted: set[str], task_vars: Mapping[str, t.Any]
    ) -> list[dict[str, str]]:
        problems = []
        # A value may refer to a default of a role that has not been loaded yet.
        variables = {**self._defaults(specs), **task_vars}
        templar = self._templar.copy_with_new_env(available_variables=variables)
        for name, (key, raw) in sorted(defined.items()):
            spec = owner(name, specs)
            if spec is None or spec.name not in wanted or name not in spec.options:
                continue
            options = without_requirements({name: spec.options[name]})
            where = origin(raw, key)
            shown = f"{name}{f' ({where})' if where else ''}"
            try:
                value = templar.template(raw)
            except AnsibleUndefinedVariable as error:
                if not any(word in str(raw) for word in _LATER):
                    problems.append({"check": "variable", "message": f"{shown} cannot be evaluated: {_reason(error)}", "remedy": "correct its value"})
                continue
            except AnsibleError as error:
                problems.append({"check": "variable", "message": f"{shown} cannot be evaluated: {_reason(error)}", "remedy": "correct its value"})
                continue
            validation = ArgumentSpecValidator(options).validate({name: value})
            for message in validation.error_messages:
                # The message may hold the value.
                text = "its value is not of the type or among the choices of the variable" if options[name].get("no_log") else " ".join(message.split())
                problems.append(
                    {
                        "check": "variable",
                        "message": f"{shown} is wrong: {text.rstrip('.')}",
                        "remedy": f"see the README of the role {spec.name}" if spec.name != "platform" else "correct its value",
                    }
                )
        return problems

    def _defaults(self, specs: Sequence[RoleSpec]) -> dict[str, t.Any]:
        values: dict[str, t.Any] = {}
        for spec in specs:
            path = ROLES / spec.name / "defaults" / "main.yml"
            if spec.others and path.is_file():
                values.update(self._loader.load_from_file(str(path), trusted_as_template=True) or {})
        return values


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
