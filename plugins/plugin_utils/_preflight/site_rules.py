# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every playbook requires of the inventory and of its command line before it reads or writes anything.

Private to the collection, pure but for inventory sources and the files of a limit.
"""

from __future__ import annotations

import os
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible.inventory.manager import split_host_pattern

from .._sites.nodes import EVICTED, GROUPS
from .inventory_rules import Problem
from .role_variables import check_of, distance

SECURE = "secure"
OPEN = "open"
# A site without clients leaves the group out. The others are there, if need be without hosts, so that a misspelt one is noticed.
REQUIRED_GROUPS = ("consul_servers", "docker_hosts", "edge")
# The playbooks and the roles of one site rely on one value of each of these.
SITE_WIDE = (
    "platform_security",
    "platform_datacenter",
    "platform_domain",
    "platform_edge_domain",
    "platform_secrets_directory",
    "platform_protected_services",
    "platform_wan_datacenters",
    "platform_prepared_queries",
)
REQUIRED = {
    "platform_address": "set it to the address under which the other nodes reach this host",
    "platform_datacenter": "set it in group_vars/all.yml, for example: platform_datacenter: dc1",
    "platform_domain": "set it in group_vars/all.yml, for example: platform_domain: consul",
    "platform_edge_domain": "set it in group_vars/all.yml, for example: platform_edge_domain: apps.hospital.example",
    "platform_artifact_mirror": ("set it in group_vars/all.yml, for example: platform_artifact_mirror: https://releases.hashicorp.com"),
}
# Letters by which a misspelt group differs from the one that is meant.
_GROUP_TYPO = 2
# Names of so few letters differ by one: edv is not edge.
_SHORT = 5
# Parts of a limit that are no plain name: a file, an expression, a pattern or an index.
_PATTERN = re.compile(r"[@~*?\[]")
# Names of this machine, which ansible-pull adds to the limit.
_LOCAL = ("localhost", "127.0.0.1", "::1")
_INVENTORY_OPTION = re.compile(r"-[bvkKCDJ]*i|--inv")


def words(items: Iterable[str]) -> str:
    """Join names as a sentence does."""
    return " and ".join(", ".join(items).rsplit(", ", 1))


def inventory_option(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether the caller named an inventory, instead of getting the one of an ansible.cfg."""
    return bool(environment.get("ANSIBLE_INVENTORY")) or any(_INVENTORY_OPTION.match(argument) for argument in arguments)


def source_problems(sources: Sequence[str]) -> Iterator[Problem]:
    """Find inventories that do not exist; Ansible only warns of them."""
    for source in sources:
        if "," not in source and not os.path.exists(source):
            yield Problem("", "inventory", f"the inventory {source} does not exist", "correct -i")


def group_problems(groups: Mapping[str, Sequence[str]], sources: Sequence[str]) -> Iterator[Problem]:
    """Find missing and misspelt groups."""
    where = words(sources) or "no inventory"
    if not any(groups.get(group) for group in GROUPS):
        yield Problem(
            "",
            "groups",
            f"the inventory ({where}) has no host in the groups {words(GROUPS)}",
            "name the right inventory with -i, or put the hosts into these groups",
        )
    else:
        for group in REQUIRED_GROUPS:
            if group not in groups:
                yield Problem(
                    "",
                    "groups",
                    f"the inventory ({where}) has no group {group}",
                    f"add it to the inventory; '{group}:' without hosts says that there are none",
                )
    yield from evicted_problems(groups)
    known = {host for group in GROUPS for host in groups.get(group) or ()}
    for name in sorted(set(groups) - {"all", "ungrouped", EVICTED, *GROUPS}):
        meant = _meant_group(name)
        # Where the group itself has hosts, a similar name may be meant, unless its hosts are in no group of the platform.
        hosts = [host for host in groups[name] if not groups.get(meant) or host not in known]
        if meant and hosts:
            yield Problem(
                "",
                "groups",
                f"the inventory ({where}) has {words(hosts)} in the group {name}, which the platform does not know",
                f"did you mean {meant}? Otherwise give it a name that differs more",
            )


def evicted_problems(groups: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Find evicted hosts that are part of the platform all the same."""
    for host in groups.get(EVICTED) or ():
        if own := [group for group in GROUPS if host in (groups.get(group) or ())]:
            yield Problem(
                host,
                "groups",
                f"{host} is in the group {EVICTED} and in {words(own)}",
                f"take it out of {words(own)}; once it was installed again and is to come back, take it out of {EVICTED} instead",
            )


def _meant_group(name: str) -> str:
    """Return the group of the inventory of which a name is a misspelling; empty when it is none."""
    meant = min((*GROUPS, EVICTED), key=lambda group: distance(name.replace("-", "_"), group, _GROUP_TYPO))
    allowed = 1 if min(len(name), len(meant)) <= _SHORT else _GROUP_TYPO
    return meant if distance(name.replace("-", "_"), meant, allowed) <= allowed else ""


def empty_group_problem(group: str) -> Problem:
    """Return the problem of a playbook for a group that has no host."""
    if group == EVICTED:
        remedy = (
            f"move the host that was broken into out of all groups of the platform, and into {EVICTED}, so that every playbook"
            ' leaves it alone; see "A node that was broken into" in docs/secure_operations.md'
        )
    else:
        remedy = f"put a host into {group}; there is nothing to do without"
    return Problem("", "groups", f"the inventory has no host in the group {group}", remedy)


def limit_hosts(limit: str, groups: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a limit can leave a host of the platform."""
    known = {*GROUPS, "all", *(host for group in GROUPS for host in groups.get(group) or ())}
    parts = split_host_pattern(limit)
    return not parts or any(part in known or part.startswith("!") or _PATTERN.search(part) for part in parts)


def foreign_limit_problems(limit: str, groups: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Find hosts in --limit that no playbook plays on: Ansible would do nothing, and call that a success."""
    site = {host for group in GROUPS for host in groups.get(group) or ()}
    hosts = {host for one in groups.values() for host in one} - {*_LOCAL}
    for part in split_host_pattern(limit):
        if part in hosts - site:
            where = f"in the group {EVICTED}" if part in (groups.get(EVICTED) or ()) else "in none of the platform's groups"
            yield Problem("", "limit", f"--limit names {part}, which is {where}", "correct --limit or the groups; nothing would be done there")


def limit_patterns(limit: str) -> list[str]:
    """Return the patterns of a limit as Ansible takes it apart, with those of its @files."""
    found: list[str] = []
    for part in split_host_pattern(limit):
        if part.startswith("@"):
            # Ansible has refused a file that is not there.
            with open(part[1:], encoding="utf-8") as lines:
                found += [line.strip() for line in lines if line.strip()]
        else:
            found.append(part)
    return found


def names_hosts(limit: str, chosen: Iterable[str], groups: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a limit says which hosts are meant.

    One without a name means all hosts to Ansible, and one that leaves no host out is no choice either; only the one host of a site can be named.
    The same goes for all servers, unless they are named one by one.

    Args:
        limit: the limit as the caller wrote it.
        chosen: the hosts that Ansible makes of it.
        groups: the groups of the inventory.
    """
    patterns, left = {*limit_patterns(limit)}, {*chosen}
    if all(pattern.startswith("!") for pattern in patterns):
        return False
    site = {host for group in GROUPS for host in groups.get(group) or ()}
    servers = {*(groups.get("consul_servers") or ())}
    if site <= left:
        return len(site) == 1 and site <= patterns
    return not servers or not servers <= left or servers <= patterns


def limit_problems(limit: str, groups: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Find names in --limit that nothing has: Ansible ignores them, and runs with the rest of the hosts."""
    known = {*groups, *(host for hosts in groups.values() for host in hosts), *_LOCAL}
    for part in split_host_pattern(limit):
        name = part.lstrip("!&")
        if name and not _PATTERN.search(name) and name not in known:
            yield Problem("", "limit", f"--limit names {name}, which is neither a host nor a group of the inventory", "correct --limit")


def security_fault(value: t.Any) -> str:
    """Return why a value of platform_security is not one; empty when it is."""
    if isinstance(value, str) and value in (SECURE, OPEN):
        return ""
    return f"is {str(value)!r}, which is neither 'secure' nor 'open'"


SECURITY_REMEDY = "write platform_security: secure, or open for a site without TLS and tokens"


def site_security(values: Mapping[str, Mapping[str, t.Any]]) -> str:
    """Return the form of the site: open when all hosts say so, and secure otherwise."""
    return OPEN if values and all(own.get("platform_security") == OPEN for own in values.values()) else SECURE


def confirmation_problem(action: str, given: t.Any, datacenters: Sequence[str]) -> Problem | None:
    """Return why a playbook that destroys something may not run here."""
    names = words(sorted(set(datacenters))) or "the inventory's platform_datacenter"
    if given is None or given == "":
        return Problem(
            "",
            "confirmation",
            f"{action} was not confirmed; this inventory is the site {names}",
            f"add -e confirm_datacenter={names}, if that is the site you mean",
        )
    if set(datacenters) != {str(given)}:
        return Problem(
            "",
            "confirmation",
            f"{action} was confirmed for the site {str(given)!r}, but this inventory is the site {names}",
            "name the right inventory with -i, or correct confirm_datacenter",
        )
    return None


def whole_site_problem(action: str, groups: Mapping[str, Sequence[str]], everything: str) -> Problem:
    """Return the problem of a playbook that wants its hosts named."""
    host = next((host for group in GROUPS for host in groups.get(group) or ()), "HOST")
    return Problem(
        "",
        "limit",
        f"{action} needs a --limit that names some of the hosts, because that would be the whole site",
        f"name the hosts, as in --limit {host}" + (f", or add -e {everything}=true" if everything else ""),
    )


def explicit_problem(action: str, sources: Sequence[str]) -> Problem:
    """Return the problem of a playbook that destroys something and was called without an inventory."""
    return Problem(
        "",
        "confirmation",
        f"{action} needs an inventory that you name; {words(sources)} is only the default of ansible.cfg",
        f"add -i {sources[0] if sources else 'INVENTORY'}, if that is the site you mean",
    )


def sources(name: str, passed: Mapping[str, t.Any], known: Iterable[str]) -> list[str]:
    """Return the variables of the inventory of which the playbooks make one that they set."""
    found: set[str] = set()
    pending, seen = [name], {name}
    while pending:
        used = set(re.findall(r"\b[a-z][a-z0-9_]*", str(passed.get(pending.pop(), ""))))
        found |= used & {*known}
        pending += [one for one in used & {*passed} if one not in seen]
        seen |= used
    return sorted(found)


def agreement_problems(values: Mapping[str, Mapping[str, t.Any]]) -> Iterator[Problem]:
    """Find site-wide variables that differ from host to host.

    Args:
        values: by host, the value of each variable that is defined for it.
    """
    for name in SITE_WIDE:
        hosts: dict[str, list[str]] = {}
        for host, own in values.items():
            hosts.setdefault(repr(own.get(name)), []).append(host)
        if len(hosts) > 1:
            found = "; ".join(f"{'no value' if value == 'None' else value} on {words(names)}" for value, names in hosts.items())
            yield Problem("", check_of(name), f"{name} differs from host to host: {found}", "set it once, in group_vars/all.yml")


def missing_problems(values: Mapping[str, Mapping[str, t.Any]], failed: Mapping[str, Mapping[str, str]]) -> Iterator[Problem]:
    """Find required variables that a host does not have, or whose value cannot be evaluated.

    Args:
        values: by host, the value of each variable that is defined for it.
        failed: by host, why the value of a variable cannot be evaluated.
    """
    joined: dict[tuple[str, str], list[str]] = {}
    for host, own in values.items():
        for name, remedy in REQUIRED.items():
            if name not in own and name not in failed.get(host, {}):
                joined.setdefault((name, remedy), []).append(host)
    for (name, remedy), hosts in joined.items():
        check = "address" if name == "platform_address" else "variable"
        yield Problem(hosts[0], check, f"{words(hosts)}: {name} is not set", remedy)
