# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tokens of a secure site, each with its rights. Private to the collection, pure.

docs/tokens.md shows what each of them can do, as a test measures it on a real agent.
"""

from __future__ import annotations

import re
import typing as t

# Names become part of a rule, so they may not end its text.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_READ_CATALOGUE = """\
node_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }
"""
# Consul registers its servers under this name.
_OWN_SERVICE = "consul"

#: Tokens of which a site has one each.
SITE_WIDE = {
    # DNS requests carry no token, so the agent asks with this one. Requests without a token get nothing else.
    "dns": _READ_CATALOGUE,
    "consul-template": _READ_CATALOGUE,
    # People: see everything but what is stored in the key-value store, change nothing.
    "operator": f"""\
agent_prefix "" {{ policy = "read" }}
{_READ_CATALOGUE}session_prefix "" {{ policy = "read" }}
operator = "read"
""",
    # The playbooks, on servers: health, leadership, prepared queries; nodes out of service and, when they are gone for good, out of the catalogue.
    "automation": """\
agent_prefix "" { policy = "read" }
node_prefix "" { policy = "write" }
service_prefix "" { policy = "read" }
query_prefix "" { policy = "write" }
operator = "write"
""",
    # The rotation of the gossip key. A playbook brings this token with its task; no node has it.
    "keyring": """\
agent_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
keyring = "write"
""",
    # Consul gives a snapshot, which holds all secrets, to no one with less.
    "backup": 'acl = "write"\n',
}


class TokenError(Exception):
    """The tokens cannot be described; the message names the value."""


def tokens(nodes: t.Sequence[t.Mapping[str, t.Any]], protected: t.Sequence[str]) -> list[dict[str, str]]:
    """Return the tokens of a site: name, rules, and the node whose identity it has.

    Args:
        nodes: the nodes of the inventory, with C(name), C(consul) and C(docker).
        protected: the names of services that not everyone who may start a container may claim.
    """
    names = [*(str(node["name"]) for node in nodes), *map(str, protected)]
    wrong = sorted(name for name in names if not _NAME.fullmatch(name))
    if wrong:
        raise TokenError(f"the name {wrong[0]!r} cannot be part of an ACL rule: use letters, digits, '-', '_' and '.'")
    found = [_token(name, rules) for name, rules in SITE_WIDE.items()]
    for node in nodes:
        name = str(node["name"])
        if node["consul"] != "none":
            found.append(_token(f"agent-{name}", node=name))
        if node["consul"] == "client":
            found.append(_token(f"maintenance-{name}", _maintenance(name)))
        if node["docker"]:
            found.append(_token(f"registrator-{name}", _registrator(protected)))
    return found + [_token(f"service-{name}", f'service "{name}" {{ policy = "write" }}\n') for name in protected]


def _token(name: str, rules: str = "", node: str = "") -> dict[str, str]:
    return {"name": name, "rules": rules, "node": node}


def _registrator(protected: t.Sequence[str]) -> str:
    """Return the rights of a node's registrator. Consul cannot bind the right on a service to a node."""
    refused = "".join(f'service "{name}" {{ policy = "read" }}\n' for name in dict.fromkeys([_OWN_SERVICE, *protected]))
    return f'node_prefix "" {{ policy = "read" }}\nservice_prefix "" {{ policy = "write" }}\n{refused}'


def _maintenance(node: str) -> str:
    """Return the rights of the playbooks on a client: take this node out of service and back."""
    return f'{_READ_CATALOGUE}node "{node}" {{ policy = "write" }}\n'
