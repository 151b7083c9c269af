# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides how far a site is protected: parts of a run, variables from outside, and the directory of the secrets.

Private to the collection, pure.
"""

from __future__ import annotations

import os
import re
import typing as t
from collections.abc import Collection, Iterable, Iterator, Mapping

from .inventory_rules import Problem

#: The tags that configure agents. The tasks that check an agent, and make its secrets and tokens, have all of them.
AGENT_TAGS = frozenset({"consul_server", "consul_server_configure"})
#: The tags of the roles that make certificates and tokens, by what is missing without them.
_MAKING = {"consul_tls": "certificates", "consul_acl": "tokens"}
_EVERY = frozenset({"all", "tagged"})
#: Variables of the playbooks themselves that switch a check off.
INTERNAL = frozenset({"platform_on_the_way"})
#: What the open form must not get from elsewhere, either.
_FORM = "consul_server_security"
_INTERNAL_SWITCH = re.compile(r"__\w+_(secure|uses|demands|joined|missing|config\w*)")
_TLS_PARTS = ("defaults", "https", "internal_rpc", "grpc")
_TLS_KEYS = ("ca_file", "ca_path", "cert_file", "key_file", "verify_incoming", "verify_outgoing")
#: Settings of Consul by which a secure agent demands keys, certificates and tokens.
_DEMANDS = frozenset(
    {
        "acl.enabled",
        "acl.default_policy",
        "addresses",
        "encrypt",
        "encrypt_verify_incoming",
        "encrypt_verify_outgoing",
        "ports.http",
        "verify_incoming",
        "verify_incoming_https",
        "verify_incoming_rpc",
        "verify_outgoing",
        "verify_server_hostname",
        *(f"tls.{part}.{key}" for part in _TLS_PARTS for key in _TLS_KEYS),
        "tls.internal_rpc.verify_server_hostname",
    }
)


def _words(items: Iterable[str]) -> str:
    return " and ".join(", ".join(items).rsplit(", ", 1))


# --- Parts of a run -------------------------------------------------------------------------------------------------


def configures_agents(run: Collection[str], skip: Collection[str]) -> bool:
    """Return whether the tags of a run give the agents their configuration."""
    return (not run or bool((_EVERY | AGENT_TAGS) & {*run})) and not (_EVERY | AGENT_TAGS) & {*skip}


def only_checks_hosts(run: Collection[str]) -> bool:
    """Return whether the tags of a run play the preflight and nothing else, so that no secret reaches a host."""
    return {*run} == {"preflight"}


def uses_secrets(run: Collection[str], skip: Collection[str]) -> bool:
    """Return whether a run reads secrets that it does not make.

    Ansible validates the arguments of each role with every tag, so a run that does not make the secrets reads them. The
    checks of the hosts get along without.
    """
    return not configures_agents(run, skip) and not only_checks_hosts(run)


def part_problems(run: Collection[str], skip: Collection[str], start: str, secure: bool) -> Iterator[Problem]:
    """Find options of the command line that leave out a check, and not what it guards."""
    if start:
        yield Problem(
            "",
            "tags",
            f"--start-at-task {start!r} leaves out the checks at the beginning of the playbook",
            "run the whole playbook, or a part of it with --tags; what is done stays as it is",
        )
    if secure and configures_agents(run, skip):
        for tag in sorted({*_MAKING} & {*skip}):
            yield Problem(
                "",
                "tags",
                f"--skip-tags {tag} configures secure agents without their {_MAKING[tag]}",
                "leave it out, or skip consul_server, too",
            )


def secrets_problem(directory: str) -> Problem:
    """Return the problem of a run that needs the secrets of a secure site."""
    return Problem(
        "",
        "secrets",
        f"the secrets of this secure site are not on this machine ({directory})",
        "bring the directory from the machine or the backup that has it (platform_secrets_directory); a new site gets"
        " its secrets when site.yml runs for all hosts and without --tags",
    )


# --- Variables from outside -----------------------------------------------------------------------------------------


def decided(
    secure: bool,
    of_secure: Collection[str],
    of_platform: Collection[str],
    is_security: t.Callable[[str], bool],
) -> set[str]:
    """Return the variables that only the playbooks may set, because they decide how far the site is protected.

    Args:
        secure: the form of the site.
        of_secure: what the secure form sets.
        of_platform: what both forms set.
        is_security: whether a variable is one of security, by its name.
    """
    both = {name for name in of_platform if is_security(name)} | {_FORM} | INTERNAL
    return both | {*of_secure} if secure else both


def switches_demands(name: str) -> bool:
    """Return whether an internal variable of a role decides what an agent demands."""
    return bool(_INTERNAL_SWITCH.fullmatch(name))


def weakening(settings: t.Any) -> list[str]:
    """Return the settings in an extra configuration of Consul that replace a demand of the secure form."""
    found = []

    def visit(value: t.Any, path: str) -> None:
        if path in _DEMANDS:
            found.append(path)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                visit(item, f"{path}.{key}" if path else str(key))

    visit(settings, "")
    return sorted(found)


# --- The directory of the secrets -----------------------------------------------------------------------------------


def directory_problems(given: str, places: Mapping[str, str], others: Collection[str]) -> Iterator[Problem]:
    """Find why it is not clear which directory holds the secrets of a secure site.

    Args:
        given: platform_secrets_directory; empty when it is not set.
        places: by host, the directory of the inventory that names it first; empty when that is not a file.
        others: the secrets directories of further inventories of this run that hold secrets.
    """
    remedy = "set platform_secrets_directory to the absolute path of the directory that this site uses"
    if given:
        if not os.path.isabs(os.path.expanduser(given)):
            message = f"platform_secrets_directory is {given!r}, which is not an absolute path"
            yield Problem("", "secrets", message, remedy)
        return
    found = sorted({*places.values()})
    if "" in found:
        hosts = [host for host, place in places.items() if not place]
        come = "comes" if len(hosts) == 1 else "come"
        message = f"{_words(hosts)} {come} from no inventory file, so there is no directory secrets next to it"
        yield Problem("", "secrets", message, remedy)
    elif len(found) > 1:
        where = _words([os.path.join(place, "secrets") for place in found])
        yield Problem(
            "",
            "secrets",
            f"the hosts come from inventories in {len(found)} directories, so the secrets may be in {where}",
            remedy,
        )
    elif others and found:
        where = _words([os.path.join(found[0], "secrets"), *sorted(others)])
        yield Problem("", "secrets", f"the secrets may be next to several inventories of this run, in {where}", remedy)
