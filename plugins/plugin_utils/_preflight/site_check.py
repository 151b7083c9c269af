# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a site once in each process, before the first task. Private to the collection.

Joins the rules (L(site_rules), L(inventory_rules), L(variable_check)) with what Ansible knows of inventory and command line.
"""

from __future__ import annotations

import functools
import os
import sys
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ...module_utils._host.ports import parse_nodes
from .._certificates.node import is_server
from .._edge.schema import EdgeError, check_edge
from .._secrets.store import (
    BEGINNING,
    SUFFIX,
    SecretError,
    loader_store,
)
from .._sites.nodes import EVICTED, GROUPS, platform_nodes
from . import eviction_rules, security_rules
from . import site_rules as rules
from .control_node import control_node_problems
from .encrypted_values import without_secrets
from .inventory_rules import (
    Names,
    Problem,
    datacenter_problems,
    naming_problems,
    node_problems,
    server_problems,
)
from .report import Report, sentence
from .role_variables import (
    RoleSpec,
    check_of,
    load_roles,
    owner,
)
from .variable_check import (
    ROLES,
    VariableCheck,
    early_fault,
    origin,
    origin_path,
    reason,
    role_defaults,
    shown,
    undefined_remedy,
)
from .variable_types import type_fault

VARS = ROLES.parent / "playbooks" / "vars"
SHARED = ROLES / "preflight" / "vars" / "main.yml"
#: Checks that preflight_tolerated cannot turn into warnings.
NEVER_TOLERATED = ("control_node", "security", "confirmation", "groups", "inventory", "limit", "secrets", "tags")
STATUS = 2
# Of the secure form's values, a name that both forms set counts.
_FORMS = ("platform", rules.OPEN, rules.SECURE)
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
_EXTRA = "consul_server_extra_config"
_LISTING = ("syntax", "listhosts", "listtasks", "listtags")


class Request(t.NamedTuple):
    """What a playbook asks for."""

    complete: bool
    secrets: str
    limit: str
    everything: str
    confirm: str
    needs: tuple[str, ...]

    @property
    def evicts(self) -> bool:
        """Whether the playbook evicts hosts."""
        return EVICTED in self.needs


class _Process:
    """What this process has found so far; a run has one inventory."""

    site: t.ClassVar[Site | None] = None
    security: t.ClassVar[str] = ""
    specs: t.ClassVar[tuple[list[RoleSpec], Mapping[str, Mapping[str, t.Any]]] | None] = None
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
        early = _early_problems(request, variables, everything)
        _end([*control_node_problems(), *early, *_outside_problems(variables, loader)])
        return _file(_Process.security or rules.SECURE)
    if request not in _Process.passed:
        if "hostvars" not in variables:
            raise AnsibleError("trinode.platform.checked_site: Ansible gives no hostvars here; use it in vars_files of a play only")
        # Kept, because later playbooks of the same call would see what earlier ones registered.
        site = _Process.site = _Process.site or Site(variables["groups"], variables["hostvars"], templar, loader)
        found = site.problems(request, _Process.confirmed, _Part.of(variables))
        _end([*_call_problems(variables), *_part_problems(variables, site), *found], site.tolerated())
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
        found += [rules.empty_group_problem(group) for group in empty if group in groups or group == EVICTED]
        found += rules.foreign_limit_problems(_limit(variables), groups)
    if request.evicts and _limit(variables):
        found.append(eviction_rules.limit_problem(_limit(variables)))
    chosen = variables.get("ansible_play_hosts_all") or ()
    named = rules.names_hosts(_limit(variables), chosen, groups)
    if request.limit and not named and not (request.everything and boolean(everything, strict=False)):
        found.append(rules.whole_site_problem(request.limit, groups, request.everything))
    if request.confirm and not rules.inventory_option(sys.argv[1:], os.environ):
        found.append(rules.explicit_problem(request.confirm, sources))
    return found


def _outside_problems(variables: Mapping[str, t.Any], loader: t.Any) -> Iterator[Problem]:
    """Find variables that another playbook gives the plays of this one, where these checks do not see them."""
    specs, _shared = _specifications(loader)
    extra, defaults = load_extra_vars(loader), role_defaults(loader, specs)
    for key, value in variables.items():
        name = str(key)
        # A truth value remembers no place, and its name may have that of a default.
        expected = name in extra or (name in defaults and value == defaults[name]) or _own(value, key)
        if expected or owner(name, specs) is None or not origin(value, key):
            continue
        yield Problem(
            "",
            check_of(name),
            f"{name} ({origin(value, key)}) is given to the plays of this playbook, where the checks do not see it",
            "move it to the inventory, for example to group_vars/all.yml, or give it with -e",
        )


def _own(value: t.Any, key: t.Any) -> bool:
    """Return whether a variable was written in a file of this collection."""
    if isinstance(value, bool) and _within(ROLES, key):
        return str(key) in _given_by_plays()
    return _within(ROLES, value, key) or _within(VARS.parent, value, key)


def _within(place: Path, *values: t.Any) -> bool:
    path = origin_path(*values)
    return bool(path) and Path(path).resolve().is_relative_to(place)


@functools.cache
def _given_by_plays() -> frozenset[str]:
    """Return the variables that the playbooks of this collection give their own plays."""
    plays = [play for path in VARS.parent.glob("*.yml") for play in yaml.safe_load(path.read_text(encoding="utf-8"))]
    return frozenset(name for play in plays for name in play.get("vars") or ())


def _specifications(loader: t.Any) -> tuple[list[RoleSpec], Mapping[str, Mapping[str, t.Any]]]:
    """Return all variables that the roles and the playbooks know, and the platform's own ones."""
    if _Process.specs is None:
        # The loader keeps the file, and gives it to the role as it was read here.
        shared = loader.load_from_file(str(SHARED), trusted_as_template=True)["__preflight_shared_variables"]
        others = (RoleSpec(name, options) for name, options in shared.items())
        _Process.specs = [*load_roles(ROLES).values(), *others], shared["platform"]
    return _Process.specs


def _part_problems(variables: Mapping[str, t.Any], site: Site) -> Iterator[Problem]:
    part, start = _Part.of(variables), str(context.CLIARGS.get("start_at_task") or "")
    yield from security_rules.part_problems(part.run, part.skip, start, site.secure)


class _Part(t.NamedTuple):
    """Which part of a playbook a run plays, and where its inventories are."""

    run: Sequence[str]
    skip: Sequence[str]
    inventories: Sequence[str]

    @classmethod
    def of(cls, variables: Mapping[str, t.Any]) -> _Part:
        """Return the part that Ansible's variables describe."""
        return cls(
            variables.get("ansible_run_tags") or (),
            variables.get("ansible_skip_tags") or (),
            [str(one) for one in variables.get("ansible_inventory_sources") or ()],
        )

    def needs_secrets(self, request: Request) -> bool:
        """Return whether the secrets must be on this machine."""
        if request.secrets == "made":
            return security_rules.uses_secrets(self.run, self.skip)
        return request.secrets == "needed"


def _limit(variables: Mapping[str, t.Any]) -> str:
    return str(variables.get("ansible_limit") or "")


class Site:
    """The nodes of the inventory with their variables."""

    def __init__(self, groups: Mapping[str, Sequence[str]], hostvars: t.Any, templar: t.Any, loader: t.Any) -> None:
        self._groups = groups
        self._hostvars = hostvars
        self._loader = loader
        self._specs, self._shared = _specifications(loader)
        self._defaults = role_defaults(loader, self._specs)
        # A value may refer to what the playbooks define.
        self._forms = {name: _load(loader, name) for name in _FORMS}
        self._passed: dict[str, t.Any] = {name: value for form in _FORMS for name, value in self._forms[form].items()}
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

    @property
    def secure(self) -> bool:
        """Whether the site has the secure form, which it has as long as not all hosts say open."""
        return self.security() == rules.SECURE

    def tolerated(self) -> list[str]:
        """Return the checks whose problems only warn."""
        return [str(one) for one in self._first("preflight_tolerated", [])]

    def overruled(self) -> list[Problem]:
        """Return the variables of the inventory that the playbooks set after it, which so have no effect."""
        extra = {*load_extra_vars(self._loader), *self._decided()}
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

    def _decided(self) -> set[str]:
        """Return the variables that only the playbooks may set."""
        both = {*self._forms["platform"], *self._forms[rules.OPEN]}
        secure = self._forms[rules.SECURE]
        found = security_rules.decided(self.secure, secure, both, lambda name: check_of(name) == "security")
        internal = {name for name in self._passed if all(name not in spec.known for spec in self._specs)}
        return found | internal

    def _overriding(self) -> Iterator[Problem]:
        """Find what would replace a decision of the playbooks about the protection of the site.

        What has no effect there, because the playbooks set it later, misleads those who read it.
        """
        joined: dict[tuple[str, str], list[str]] = {}
        for host, raw in self.raw.items():
            for name in sorted({*raw} & self._decided()):
                joined.setdefault(self._replaced(name, raw), []).append(host)
            for path in security_rules.weakening(self._evaluated(host, _EXTRA)) if self.secure else ():
                message = f"{path} in {_variable(_EXTRA, raw)} would replace what the secure form demands"
                joined.setdefault((message, "remove it"), []).append(host)
        for name, value in load_extra_vars(self._loader).items():
            if security_rules.switches_demands(name) and (spec := owner(name.lstrip("_"), self._specs)):
                message = f"{shown(name, value, name)} is internal to {_named(spec)}"
                joined.setdefault((message, "remove it"), []).extend(self.hosts)
        for (message, remedy), hosts in joined.items():
            yield Problem(hosts[0], "security", f"{rules.words(hosts)}: {message}", remedy)

    def _replaced(self, name: str, raw: Mapping[t.Any, t.Any]) -> tuple[str, str]:
        """Return what is wrong with a variable that only the playbooks may set, and the remedy."""
        known = next((spec for spec in self._specs if name in spec.known), None)
        if known is None:
            return f"{_variable(name, raw)} is no variable of the platform, but internal to its playbooks", "remove it"
        secret = "trinode.platform.secret" in str(self._passed.get(name))
        made_of = [] if secret else rules.sources(name, self._passed, self._shared)
        remedy = f"set {rules.words(made_of)} instead" if made_of else "remove it; platform_security decides about it"
        return f"{_variable(name, raw)} would replace what the playbooks set for {_named(known)}", remedy

    def _evaluated(self, host: str, name: str) -> t.Any:
        """Return the value of a variable; None where there is none, or an error, which is reported elsewhere."""
        try:
            return self._templars[host].template(self.raw[host].get(name))
        except AnsibleError:
            return None

    def problems(self, request: Request, confirmed: t.Any, part: _Part) -> list[Problem]:
        """Return everything that is wrong, the problems of the whole site first."""
        found = [*self._security(), *self._overriding(), *self._variables(), *self._rules(request.complete)]
        if request.confirm:
            datacenters = [str(own.get("platform_datacenter", "")) for own in self.values.values()]
            problem = rules.confirmation_problem(request.confirm, confirmed, datacenters)
            found += [problem] if problem else []
        if request.evicts:
            found += self._eviction()
        if request.complete and not found:
            # It is made of everything that was checked so far.
            found += self._edge()
        if self.secure:
            found += self._secrets(part, part.needs_secrets(request))
        order = {host: number for number, host in enumerate(["", *self.hosts])}
        return sorted(without_secrets(found, self.raw), key=lambda one: order.get(one.host, 0))

    def _eviction(self) -> Iterator[Problem]:
        """Find what keeps an eviction from beginning."""
        gone = eviction_rules.evicted(self._groups, self._hostvars)
        own = [host for host, raw in self.raw.items() if raw.get("platform_consul_certificates")]
        given = {*load_extra_vars(self._loader), *(name for raw in self.raw.values() for name in raw)}
        try:
            servers = {node["name"] for node in gone if is_server(self._secret(f"consul_certificate_{node['name']}".lower()))}
        except SecretError as error:
            yield Problem("", "secrets", str(error), "repair the directory of the secrets")
            return
        partial = sorted({"platform_rotate"} & given)
        nodes = platform_nodes(self._groups, self._hostvars)
        yield from eviction_rules.problems(eviction_rules.Facts(nodes, gone, servers, self.secure, own, partial))

    def _secret(self, name: str) -> str:
        """Return a secret of the site; empty when it does not exist."""
        store = loader_store(self._loader, self._secrets_directory(), dry=True)
        return store.get(name) or ""

    def _secrets_directory(self) -> str:
        given = str(self._first("platform_secrets_directory", ""))
        place = next((str(raw.get("inventory_dir")) for raw in self.raw.values()), "")
        return os.path.abspath(os.path.expanduser(given) or os.path.join(place, "secrets"))

    def _edge(self) -> list[Problem]:
        """Return what is wrong with the description of the edge, each problem once for all hosts that have it."""
        joined: dict[tuple[str, str], list[str]] = {}
        for host in self.hosts:
            try:
                if host in self._templars[host].template(self._passed["platform_nginx_hosts"]):
                    check_edge(self._templars[host].template(self._passed["platform_edge_description"]))
            except EdgeError as error:
                for text in error.errors:
                    joined.setdefault((f"platform_edge is wrong: {text}", "correct platform_edge"), []).append(host)
            except AnsibleError as error:
                joined.setdefault(self._unknown_edge(host, error), []).append(host)
        found = joined.items()
        return [Problem(hosts[0], "edge", f"{rules.words(hosts)}: {text}", remedy) for (text, remedy), hosts in found]

    def _unknown_edge(self, host: str, error: AnsibleError) -> tuple[str, str]:
        """Return which variable keeps the description of the edge from being known, and the remedy."""
        raw = self.raw[host]
        for name in rules.sources("platform_edge_description", self._passed, self._shared):
            if name in raw and (fault := early_fault(name, raw[name], raw)):
                return f"{_variable(name, raw)} {fault[0]}", fault[1]
        return f"platform_edge cannot be evaluated: {reason(error)}", "correct platform_edge"

    def _secrets(self, part: _Part, needed: bool) -> Iterator[Problem]:
        given = str(self._first("platform_secrets_directory", ""))
        # Without a file it is the text None.
        named = {host: str(raw.get("inventory_dir")) for host, raw in self.raw.items()}
        places = {host: place if os.path.isabs(place) else "" for host, place in named.items()}
        chosen = os.path.expanduser(given) or os.path.join(next(iter(places.values()), ""), "secrets")
        unclear = list(security_rules.directory_problems(given, places, _further_secrets(part.inventories, chosen)))
        yield from unclear
        if needed and not unclear and not _begun(chosen):
            yield security_rules.secrets_problem(chosen)

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
            early={*rules.SITE_WIDE, *rules.REQUIRED, *_OTHERS},
        )
        decided = {"platform_security", *self._decided()}
        joined: dict[tuple[str, str, str], list[str]] = {}
        for host in self.hosts:
            # Their own rules are stricter.
            defined = {name: value for name, value in self.raw[host].items() if name not in decided}
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


def _variable(name: str, defined: Mapping[t.Any, t.Any]) -> str:
    """Return a variable's name with the place where it was written, which the name may hold when the value cannot."""
    return shown(name, defined[name], next(key for key in defined if key == name))


def _named(spec: RoleSpec) -> str:
    return f"the {spec.name}" if spec.name in ("platform", "playbooks") else f"the role {spec.name}"


def _load(loader: t.Any, form: str) -> dict[str, t.Any]:
    """Return what the playbooks set in a form."""
    return loader.load_from_file(str(VARS / f"{form}.yml"), trusted_as_template=True) or {}


def _begun(directory: str) -> bool:
    """Return whether a directory holds the secrets of a site."""
    return any(os.path.exists(os.path.join(directory, f"{name}{SUFFIX}")) for name in BEGINNING)


def _further_secrets(inventories: Sequence[str], chosen: str) -> list[str]:
    """Return the directories with secrets that are next to inventories, but for the one that is used."""
    places = {one if os.path.isdir(one) else os.path.dirname(one) for one in inventories if os.path.exists(one)}
    found = {os.path.realpath(os.path.join(place, "secrets")) for place in places}
    return sorted(one for one in found - {os.path.realpath(chosen)} if _begun(one))
