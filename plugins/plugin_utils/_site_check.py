# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a site once in each process, before the first task. Private to the collection.

Joins the rules (L(_site_rules), L(_inventory_rules), L(_variable_check)) with what Ansible knows of inventory and command line.
"""

from __future__ import annotations

import os
import sys
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ansible_collections.trinode.platform.plugins.module_utils._node_ports import parse_nodes
from ansible_collections.trinode.platform.plugins.plugin_utils import _site_rules as rules
from ansible_collections.trinode.platform.plugins.plugin_utils._control_node import control_node_problems
from ansible_collections.trinode.platform.plugins.plugin_utils._edge import EdgeError, check_edge
from ansible_collections.trinode.platform.plugins.plugin_utils._encrypted_values import hide, plain_texts
from ansible_collections.trinode.platform.plugins.plugin_utils._inventory_rules import (
    Names,
    Problem,
    datacenter_problems,
    naming_problems,
    node_problems,
    server_problems,
)
from ansible_collections.trinode.platform.plugins.plugin_utils._platform_nodes import GROUPS, platform_nodes
from ansible_collections.trinode.platform.plugins.plugin_utils._preflight_report import Report, sentence
from ansible_collections.trinode.platform.plugins.plugin_utils._role_variables import RoleSpec, load_roles
from ansible_collections.trinode.platform.plugins.plugin_utils._secret_store import BEGINNING, SUFFIX
from ansible_collections.trinode.platform.plugins.plugin_utils._variable_check import (
    ROLES,
    VariableCheck,
    reason,
    role_defaults,
    shown,
    undefined_remedy,
)
from ansible_collections.trinode.platform.plugins.plugin_utils._variable_types import type_fault

VARS = ROLES.parent / "playbooks" / "vars"
SHARED = ROLES / "preflight" / "vars" / "main.yml"
#: Checks that preflight_tolerated cannot turn into warnings.
NEVER_TOLERATED = ("control_node", "security", "confirmation", "groups", "inventory", "limit", "secrets")
STATUS = 2
# Further variables whose value the rules need.
_OTHERS = (
    "consul_server_node_name",
    "platform_recursors",
    "preflight_allow_single_server",
    "preflight_ignored_variables",
    "preflight_tolerated",
)
#: Names that the playbooks set to what they read of the inventory.
READ_FIRST = frozenset({"consul_server_node_name"})
_LISTING = ("syntax", "listhosts", "listtasks", "listtags")


class Request(t.NamedTuple):
    """What a playbook asks for."""

    complete: bool
    secrets: str
    limit: str
    everything: str
    confirm: str
    needs: tuple[str, ...]


class _Process:
    """What this process has found so far; a run has one inventory."""

    site: t.ClassVar[Site | None] = None
    security: t.ClassVar[str] = ""
    passed: t.ClassVar[set[Request]] = set()
    # The datacenter that the caller named. Read without a host, so that one that the inventory names confirms nothing.
    confirmed: t.ClassVar[t.Any] = None


def checked_file(request: Request, variables: Mapping[str, t.Any], templar: t.Any, loader: t.Any) -> str:
    """Return the file of the site's form; ends the run when something is wrong.

    Without a host, Ansible prepares a play: the command line and the groups are known, and the variables of hosts are not.
    """
    # A listing runs nothing, and often has no inventory.
    if any(context.CLIARGS.get(name) for name in _LISTING):
        return _file(rules.SECURE)
    if variables.get("inventory_hostname") is None:
        _Process.confirmed = _given("confirm_datacenter", variables, templar)
        everything = _given(request.everything, variables, templar)
        _end([*control_node_problems(), *_early_problems(request, variables, everything)])
        return _file(_Process.security or rules.SECURE)
    if request not in _Process.passed:
        if "hostvars" not in variables:
            raise AnsibleError("trinode.platform.checked_site: Ansible gives no hostvars here; use it in vars_files of a play only")
        # Kept, because later playbooks of the same call would see what earlier ones registered.
        site = _Process.site = _Process.site or Site(variables["groups"], variables["hostvars"], templar, loader)
        _end([*_call_problems(variables), *site.problems(request, _Process.confirmed, _needs_secrets(request, variables))], site.tolerated())
        for one in site.overruled():
            Display().warning(f"preflight: {one}")
        _Process.security = site.security()
        _Process.passed.add(request)
    return _file(_Process.security)


def _given(name: str, variables: Mapping[str, t.Any], templar: t.Any) -> t.Any:
    """Return the value of an extra variable; ends the run when it cannot be evaluated."""
    try:
        return templar.template(variables.get(name))
    except AnsibleError as error:
        return _end([Problem("", "confirmation", f"{name} cannot be evaluated: {reason(error)}", undefined_remedy(error))])


def _file(security: str) -> str:
    path = VARS / f"{security}.yml"
    # Ansible goes on without a word when a file of vars_files is missing.
    for needed in (path, VARS / "platform.yml"):
        if not needed.is_file():
            _end([Problem("", "variable", f"{needed} is missing", "install the collection again")])
    return str(path)


def _end(problems: Sequence[Problem], tolerated: Sequence[str] = ()) -> None:
    """Print all problems and end the run, when there are any.

    An exception would be printed with the place of the lookup in the playbook around it, which is not where the mistake is.
    """
    unique = list(dict.fromkeys(problems))
    warned = [one for one in unique if one.check in tolerated and one.check not in NEVER_TOLERATED]
    for one in warned:
        Display().warning(f"preflight: {one}")
    if left := [one for one in unique if one not in warned]:
        Display().error(sentence(Report(problems=left), 0), wrap_text=False)
        raise SystemExit(STATUS)


def _call_problems(variables: Mapping[str, t.Any]) -> Iterator[Problem]:
    groups, sources = variables["groups"], _sources(variables)
    missing = list(rules.source_problems(sources))
    yield from missing
    if not missing:
        yield from rules.group_problems(groups, sources)
    yield from rules.limit_problems(_limit(variables), groups)


def _sources(variables: Mapping[str, t.Any]) -> list[str]:
    named = [str(one) for one in variables.get("ansible_inventory_sources") or ()]
    return [one if os.path.relpath(one).startswith("..") else os.path.relpath(one) for one in named]


def _early_problems(request: Request, variables: Mapping[str, t.Any], everything: t.Any) -> list[Problem]:
    """Return why no host would be checked, and what only the command line shows. The rest follows with the first host."""
    groups, sources = variables["groups"], _sources(variables)
    found: list[Problem] = []
    empty = [group for group in ("consul_servers", *request.needs) if not groups.get(group)]
    if empty or not rules.limit_hosts(_limit(variables), groups):
        found += _call_problems(variables)
        found += [rules.empty_group_problem(group) for group in empty if group in groups]
    chosen = variables.get("ansible_play_hosts_all") or ()
    named = rules.names_hosts(_limit(variables), chosen, groups)
    if request.limit and not named and not (request.everything and boolean(everything, strict=False)):
        found.append(rules.whole_site_problem(request.limit, groups, request.everything))
    if request.confirm and not rules.inventory_option(sys.argv[1:], os.environ):
        found.append(rules.explicit_problem(request.confirm, sources))
    return found


def _needs_secrets(request: Request, variables: Mapping[str, t.Any]) -> bool:
    if request.secrets == "made":
        return rules.uses_secrets(variables.get("ansible_run_tags") or (), variables.get("ansible_skip_tags") or ())
    return request.secrets == "needed"


def _limit(variables: Mapping[str, t.Any]) -> str:
    return str(variables.get("ansible_limit") or "")


class Site:
    """The nodes of the inventory with their variables."""

    def __init__(self, groups: Mapping[str, Sequence[str]], hostvars: t.Any, templar: t.Any, loader: t.Any) -> None:
        self._groups = groups
        self._loader = loader
        shared = loader.load_from_file(str(SHARED))["__preflight_shared_variables"]
        self._specs = [*load_roles(ROLES).values(), *(RoleSpec(name, options) for name, options in shared.items())]
        self._shared: Mapping[str, Mapping[str, t.Any]] = shared["platform"]
        self._defaults = role_defaults(loader, self._specs)
        # A value may refer to what the playbooks define.
        self._passed: dict[str, t.Any] = {}
        for name in ("platform", rules.SECURE):
            self._passed.update(loader.load_from_file(str(VARS / f"{name}.yml"), trusted_as_template=True) or {})
        self.hosts = list(dict.fromkeys(host for group in GROUPS for host in groups.get(group) or ()))
        self.raw = {host: hostvars.raw_get(host) for host in self.hosts}
        given = {**self._defaults, **self._passed}
        self._templars = {host: templar.copy_with_new_env(available_variables={**given, **raw, "hostvars": hostvars}) for host, raw in self.raw.items()}
        self.values: dict[str, dict[str, t.Any]] = {}
        self.failed: dict[str, dict[str, str]] = {}
        for host in self.hosts:
            self._evaluate(host)

    def _evaluate(self, host: str) -> None:
        values, failed = self.values.setdefault(host, {}), self.failed.setdefault(host, {})
        for name in (*rules.SITE_WIDE, *rules.REQUIRED, *_OTHERS):
            if name in self.raw[host]:
                try:
                    values[name] = self._templars[host].template(self.raw[host][name])
                except AnsibleError as error:
                    failed[name] = str(error)

    def _first(self, name: str, default: t.Any) -> t.Any:
        """Return a site-wide value; the default where it is missing, or is not of the type of the default."""
        value = next((own[name] for own in self.values.values() if name in own), default)
        return value if isinstance(value, type(default)) else default

    def _typed(self, name: str) -> list[Mapping[str, t.Any]]:
        """Return the entries of a list that are of their type; the others were reported with their place."""
        spec = {"type": "dict", "options": self._shared[name].get("options")}
        return [one for one in self._first(name, []) if type_fault(one, spec) is None]

    def _flag(self, name: str) -> bool:
        """Return a truth value, which is a text when it comes from -e NAME=true."""
        value = next((own[name] for own in self.values.values() if name in own), False)
        return isinstance(value, (bool, int, str)) and boolean(value, strict=False)

    def security(self) -> str:
        """Return the form of the site; only called without a problem."""
        return rules.site_security(self.values)

    def tolerated(self) -> list[str]:
        """Return the checks whose problems only warn."""
        return [str(one) for one in self._first("preflight_tolerated", [])]

    def overruled(self) -> list[Problem]:
        """Return the variables of the inventory that the playbooks set after it, which so have no effect."""
        extra = load_extra_vars(self._loader)
        joined: dict[tuple[str, str], list[str]] = {}
        for host in self.hosts:
            for name in sorted({*self.raw[host]} & {*self._passed} - {*extra} - READ_FIRST):
                made_of = rules.sources(name, self._passed, self._shared)
                remedy = f"set {rules.words(made_of)} instead" if made_of else "remove it"
                joined.setdefault((shown(name, self.raw[host][name]), remedy), []).append(host)
        return [
            Problem(hosts[0], "variable", f"{rules.words(hosts)}: {where} has no effect, because the playbooks set it", remedy)
            for (where, remedy), hosts in joined.items()
        ]

    def problems(self, request: Request, confirmed: t.Any, needs_secrets: bool) -> list[Problem]:
        """Return everything that is wrong, the problems of the whole site first."""
        found = [*self._security(), *self._variables(), *self._rules(request.complete)]
        if request.confirm:
            datacenters = [str(own.get("platform_datacenter", "")) for own in self.values.values()]
            problem = rules.confirmation_problem(request.confirm, confirmed, datacenters)
            found += [problem] if problem else []
        if request.complete and not found:
            # It is made of everything that was checked so far.
            found += self._edge()
        if needs_secrets and self.security() == rules.SECURE:
            found += self._secrets()
        order = {host: number for number, host in enumerate(["", *self.hosts])}
        return sorted(self._without_secrets(found), key=lambda one: order.get(one.host, 0))

    def _without_secrets(self, found: Sequence[Problem]) -> list[Problem]:
        """Return the problems without what the inventory holds encrypted, wherever a rule repeats it."""
        secrets = plain_texts(self.raw.values()) if found else set()
        return [replace(one, message=hide(one.message, secrets), remedy=hide(one.remedy, secrets)) for one in found]

    def _edge(self) -> list[Problem]:
        """Return what is wrong with the description of the edge, each problem once for all hosts that have it."""
        joined: dict[str, list[str]] = {}
        for host in self.hosts:
            try:
                if host in self._templars[host].template(self._passed["platform_nginx_hosts"]):
                    check_edge(self._templars[host].template(self._passed["platform_edge_description"]))
            except EdgeError as error:
                for text in error.errors:
                    joined.setdefault(f"platform_edge is wrong: {text}", []).append(host)
            except AnsibleError as error:
                joined.setdefault(f"platform_edge cannot be evaluated: {reason(error)}", []).append(host)
        return [Problem(hosts[0], "edge", f"{rules.words(hosts)}: {text}", "correct platform_edge") for text, hosts in joined.items()]

    def _secrets(self) -> Iterator[Problem]:
        directory = self._first("platform_secrets_directory", "")
        if not directory and self.hosts:
            directory = os.path.join(str(self.raw[self.hosts[0]].get("inventory_dir") or ""), "secrets")
        if not any(os.path.exists(os.path.join(directory, f"{name}{SUFFIX}")) for name in BEGINNING):
            yield rules.secrets_problem(directory)

    def _security(self) -> list[Problem]:
        name = "platform_security"
        joined: dict[str, list[str]] = {}
        for host in self.hosts:
            if name in self.raw[host]:
                fault = "cannot be evaluated" if name in self.failed[host] else rules.security_fault(self.values[host][name])
                if fault:
                    joined.setdefault(f"{shown(name, self.raw[host][name])} {fault}", []).append(host)
        return [Problem(hosts[0], "security", f"{rules.words(hosts)}: {message}", rules.SECURITY_REMEDY) for message, hosts in joined.items()]

    def _variables(self) -> list[Problem]:
        """Return what is wrong with names, types and values, each problem once for all hosts that have it."""
        check = VariableCheck(
            self._specs,
            {spec.name for spec in self._specs},
            [str(one) for one in self._first("preflight_ignored_variables", [])],
            self._defaults,
        )
        joined: dict[tuple[str, str, str], list[str]] = {}
        for host in self.hosts:
            # Its own rule is stricter.
            defined = {name: value for name, value in self.raw[host].items() if name != "platform_security"}
            for one in check.problems(defined, self._templars[host]):
                joined.setdefault((one["check"], one["message"], one["remedy"]), []).append(host)
        found = [Problem(hosts[0], check_name, f"{rules.words(hosts)}: {message}", remedy) for (check_name, message, remedy), hosts in joined.items()]
        return [*found, *rules.missing_problems(self.values, self.failed), *rules.agreement_problems(self.values)]

    def _rules(self, complete: bool) -> Iterator[Problem]:
        hostvars = {host: {**self.raw[host], **self.values[host]} for host in self.hosts}
        for host, failed in self.failed.items():
            hostvars[host].update(dict.fromkeys(failed, ""))
        nodes = parse_nodes(platform_nodes(self._groups, hostvars))
        names = Names(
            self._first("platform_datacenter", "dc1"),
            self._first("platform_domain", "consul"),
            self._first("platform_edge_domain", "edge.invalid"),
            [str(one) for one in self._first("platform_recursors", [])],
            self._flag("preflight_allow_single_server"),
            others=self._typed("platform_wan_datacenters"),
            queries=self._typed("platform_prepared_queries"),
        )
        without = {host for host in self.hosts if not self.values[host].get("platform_address")}
        for one in node_problems(nodes):
            # What is missing was reported with its place.
            if not (one.check == "address" and one.host in without):
                yield one
        yield from naming_problems(nodes, names)
        if complete:
            yield from server_problems(nodes, names.allow_single_server)
            yield from datacenter_problems(nodes, names)
