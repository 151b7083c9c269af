# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the rules for variables and Ansible: where a variable was written, and what its value is. Private to the collection."""

from __future__ import annotations

import os
import re
import typing as t
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ansible._internal._datatag._tags import Origin
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .encrypted_values import encrypted
from .role_variables import (
    RoleSpec,
    check_of,
    owner,
    unknown_variables,
    without_requirements,
)
from .variable_types import type_fault

ROLES = Path(__file__).resolve().parents[3] / "roles"
# A value that needs one of these may be right although it cannot be known before the first task on the host.
_LATER = ("ansible_facts", "ansible_local", "hostvars", "lookup(", "query(", "q(")


def _origin(*values: t.Any) -> t.Any:
    """Return what Ansible remembers of where the first of these values was written."""
    found = (Origin.get_tag(value) for value in values)
    return next((tag for tag in found if tag is not None and (tag.path or tag.description)), None)


def origin_path(*values: t.Any) -> str:
    """Return the file in which a variable was written; empty without one."""
    tag = _origin(*values)
    return str(tag.path or "") if tag else ""


def origin(*values: t.Any) -> str:
    """Return the file and line in which a variable was written, when Ansible remembers them."""
    tag = _origin(*values)
    if tag is None:
        return ""
    if not tag.path:
        return str(tag.description).strip("<>")
    path = os.path.relpath(tag.path)
    path = tag.path if path.startswith("../..") else path
    return f"{path}:{tag.line_num}" if tag.line_num else str(path)


def shown(name: str, *values: t.Any) -> str:
    """Return a variable's name with the place where it was written."""
    where = origin(*values)
    return f"{name} ({where})" if where else name


_UNDEFINED = re.compile(r"'([A-Za-z_]\w*)' is undefined")
# What Ansible learns from a host, and not from the inventory.
_NAMES = (
    r"facts|local|all_ipv[46]_addresses|default_ipv[46]|hostname|nodename|fqdn|domain|distribution\w*|os_family|system"
    r"|architecture|machine|kernel|interfaces|mem\w+_mb|processor\w*|env|date_time|lsb|(eth|en[opsx]|wl|bond|br|vlan)\w*"
)
_FACTS = re.compile(rf"\bansible_({_NAMES})\b")
_EXAMPLES = {"platform_address": "192.0.2.1"}


def undefined_remedy(error: Exception) -> str:
    """Return what to do about a value that refers to a variable that is not there."""
    found = _UNDEFINED.search(str(error))
    return f"set {found[1]} for it, or correct its value" if found else "correct its value"


def early_fault(name: str, raw: t.Any, defined: Mapping[str, t.Any]) -> tuple[str, str] | None:
    """Return why a value that is needed before the first connection is not known then, and the remedy.

    None when it is not made of facts.

    Args:
        name: the variable.
        raw: its value as it was written.
        defined: the variables that it may refer to.
    """
    pending, seen = [str(raw)], {name}
    while pending:
        text = pending.pop()
        if fact := _FACTS.search(text):
            example = f", as in {name}: {_EXAMPLES[name]}" if name in _EXAMPLES else ""
            return (
                f"is made of facts of the host ({fact[0]}), and is needed before the first connection",
                f"write the value itself into the inventory{example}",
            )
        names = {one for one in re.findall(r"[A-Za-z_]\w*", text) if one in defined} - seen
        seen |= names
        pending += [str(defined[one]) for one in names]
    return None


def reason(error: Exception) -> str:
    """Return the first line of an error."""
    return str(error).splitlines()[0].rstrip(".")


def role_defaults(loader: t.Any, specs: Sequence[RoleSpec]) -> dict[str, t.Any]:
    """Return the defaults of the roles, to which a value may refer before the role is loaded."""
    values: dict[str, t.Any] = {}
    for spec in specs:
        path = ROLES / spec.name / "defaults" / "main.yml"
        if spec.others and path.is_file():
            values.update(loader.load_from_file(str(path), trusted_as_template=True) or {})
    return values


class VariableCheck:
    """Compares what is defined for a host with what the roles know.

    Args:
        specs: the variables of all roles, and of everything else that has a specification.
        wanted: the names of the specifications that count.
        ignored: patterns of names that belong to other software.
        defaults: the defaults of the roles.
        early: the names of the variables that are needed before the first connection.
    """

    def __init__(
        self,
        specs: Sequence[RoleSpec],
        wanted: set[str],
        ignored: Sequence[str],
        defaults: Mapping[str, t.Any],
        early: Collection[str] = (),
    ) -> None:
        self._specs = specs
        self._wanted = wanted
        self._ignored = ignored
        self._defaults = defaults
        self._early = early

    def problems(self, defined: Mapping[str, t.Any], templar: t.Any) -> list[dict[str, str]]:
        """Return what is wrong with the variables of one host, as check, message and remedy."""
        # A fact that a role reported is not input, even where facts are injected as variables.
        facts = defined.get("ansible_facts") or {}
        named = {str(name): (name, value) for name, value in defined.items() if name not in facts}
        return [*self._unknown(named), *self._wrong(named, templar)]

    def _unknown(self, named: Mapping[str, tuple[t.Any, t.Any]]) -> list[dict[str, str]]:
        problems = []
        for one in unknown_variables(named, self._specs, self._ignored):
            if one.role and one.role not in self._wanted:
                continue
            whose = "" if not one.role else (" of the platform" if one.role == "platform" else f" of the role {one.role}")
            remedy = f"did you mean {one.nearest}? Otherwise remove it" if one.nearest else "remove it"
            if one.role not in ("platform", "playbooks"):
                remedy += ", or list it in preflight_ignored_variables when it belongs to other software"
            problems.append(_problem(one.nearest or one.name, f"{shown(one.name, *named[one.name])} is no variable{whose}", remedy))
        return problems

    def _wrong(self, named: Mapping[str, tuple[t.Any, t.Any]], templar: t.Any) -> list[dict[str, str]]:
        problems = []
        for name, (key, raw) in sorted(named.items()):
            spec = owner(name, self._specs)
            if spec is None or spec.name not in self._wanted or name not in spec.options:
                continue
            where = shown(name, raw, key)
            try:
                value = templar.template(raw)
            except AnsibleUndefinedVariable as error:
                early = name in self._early
                values = {one: value for one, (_key, value) in named.items()} if early else {}
                if early and (fault := early_fault(name, raw, values)):
                    problems.append(_problem(name, f"{where} {fault[0]}", fault[1]))
                elif early or not any(word in str(raw) for word in _LATER):
                    problems.append(_problem(name, f"{where} cannot be evaluated: {reason(error)}", undefined_remedy(error)))
                continue
            except AnsibleError as error:
                problems.append(_problem(name, f"{where} cannot be evaluated: {reason(error)}", "correct its value"))
                continue
            problems += self._value_problems(where, name, value, spec)
        return problems

    def _value_problems(self, where: str, name: str, value: t.Any, spec: RoleSpec) -> list[dict[str, str]]:
        if value is None and name in self._defaults and self._defaults[name] is None:
            return []
        options = without_requirements({name: spec.options[name]})
        if list(encrypted(value)):
            options[name] = {**options[name], "no_log": True}
        if fault := type_fault(value, options[name]):
            return [_problem(name, f"{where} {fault.message}", fault.remedy)]
        readme = f"see the README of the role {spec.name}" if spec.name not in ("platform", "playbooks") else "correct its value"
        found = []
        for message in ArgumentSpecValidator(options).validate({name: value}).error_messages:
            # The message may hold the value.
            secret = "its value is not of the type or among the choices of the variable"
            text = secret if options[name].get("no_log") else " ".join(message.split())
            found.append(_problem(name, f"{where} is wrong: {text.rstrip('.')}", readme))
        return found


def _problem(name: str, message: str, remedy: str) -> dict[str, str]:
    return {"check": check_of(name), "message": message, "remedy": remedy}
