# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restored snapshot brings back into the ACLs of a cluster: what was deleted after it was taken.

Private to the collection. L(compare) is pure. No secret is in what these functions return.
"""

from __future__ import annotations

import typing as t
from urllib.parse import quote

from ansible_collections.trinode.platform.plugins.module_utils._consul_acl import PREFIX, AclApi, Refused


class Kind(t.NamedTuple):
    """One kind of object in Consul's ACL system."""

    name: str
    #: Where Consul lists all of them, and the beginning of the path of one.
    listing: str
    path: str
    #: The fields that identify one and that describe it.
    identity: str
    label: str


#: In the order in which they are deleted: first what gives access at once, then what can give it again.
KINDS = (
    Kind("token", "/v1/acl/tokens", "/v1/acl/token/", "AccessorID", "Description"),
    Kind("binding rule", "/v1/acl/binding-rules", "/v1/acl/binding-rule/", "ID", "Description"),
    Kind("auth method", "/v1/acl/auth-methods", "/v1/acl/auth-method/", "Name", "Description"),
    Kind("role", "/v1/acl/roles", "/v1/acl/role/", "ID", "Name"),
    Kind("policy", "/v1/acl/policies", "/v1/acl/policy/", "ID", "Name"),
)


class Entry(t.NamedTuple):
    """One object, without its secret."""

    kind: str
    identity: str
    label: str
    #: For tokens: the policies, roles and identities.
    rights: tuple[str, ...] = ()
    own: bool = False

    @property
    def platform(self) -> bool:
        """Whether the platform manages it, and ends it by itself when it is unwanted."""
        return self.kind in ("token", "policy") and self.label.startswith(PREFIX)

    def __str__(self) -> str:
        rights = f" ({', '.join(self.rights)})" if self.rights else ""
        return f"{self.kind} {self.identity} {self.label!r}{rights}"


def entries(acl: AclApi) -> list[Entry]:
    """Return everything in the ACL system that gives access, or can give it."""
    found = []
    for kind in KINDS:
        for item in acl.call("GET", kind.listing) or []:
            entry = Entry(kind.name, str(item[kind.identity]), str(item.get(kind.label) or ""))
            if kind.name == "token":
                entry = entry._replace(rights=_rights(item), own=item.get("SecretID") == acl.api.token)
            found.append(entry)
    return found


def _rights(token: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    fields = (
        ("Policies", "Name", "policy"),
        ("Roles", "Name", "role"),
        ("NodeIdentities", "NodeName", "node"),
        ("ServiceIdentities", "ServiceName", "service"),
    )
    return tuple(f"{word} {one.get(name)}" for field, name, word in fields for one in token.get(field) or ())


def known(found: t.Iterable[Entry]) -> dict[str, list[str]]:
    """Return what to remember of a cluster before a restore: identities by kind."""
    found = list(found)
    remembered = {kind.name: [entry.identity for entry in found if entry.kind == kind.name] for kind in KINDS}
    return {**remembered, "platform": [entry.identity for entry in found if entry.kind == "policy" and entry.platform]}


class Comparison(t.NamedTuple):
    """What came back with a snapshot."""

    #: Whether it is a snapshot of this cluster. Then, what was not there before had been deleted.
    same_cluster: bool
    revived: tuple[Entry, ...]


def compare(before: t.Mapping[str, t.Sequence[str]], now: t.Iterable[Entry]) -> Comparison:
    """Find what was not there before the restore, apart from what the platform manages by itself.

    The ids of the platform's policies are made once for a cluster and outlive every rotation, so they tell a snapshot
    of this cluster from one of a cluster that was lost.
    """
    now = list(now)
    platform = {entry.identity for entry in now if entry.kind == "policy" and entry.platform}
    foreign = (entry for entry in now if not entry.own and not entry.platform)
    revived = tuple(entry for entry in foreign if entry.identity not in before.get(entry.kind, ()))
    return Comparison(bool(platform & set(before.get("platform", ()))), revived)


def end(acl: AclApi, revived: t.Iterable[Entry]) -> None:
    """Delete what was revived."""
    paths = {kind.name: kind.path for kind in KINDS}
    for entry in sorted(revived, key=lambda one: [kind.name for kind in KINDS].index(one.kind)):
        try:
            acl.call("DELETE", paths[entry.kind] + quote(entry.identity, safe=""))
        except Refused as error:
            # Gone already, as a binding rule with its auth method.
            if error.status != 404:
                raise
