# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens, policies, roles, auth methods and binding rules of a Consul cluster that the platform did not make.

Private to the collection and pure. Each of them can give rights to somebody whose own token has ended, so a rotation alone does not end an intruder.
"""

from __future__ import annotations

import json
import typing as t
from urllib.parse import quote

from .acl import ANONYMOUS, BUILT_IN_POLICIES, PREFIX, is_ours, policy_name
from .acl_held import Entry, Holdings

#: The word that stands for every unknown entry.
ALL = "all"
# Texts of the cluster may come from an intruder, and end up on a terminal.
_SHOWN = 100
# What gives rights comes first: an auth method makes tokens by its binding rules, and a token has its rights from roles and policies.
_KINDS = {
    "auth method": "/v1/acl/auth-method/",
    "binding rule": "/v1/acl/binding-rule/",
    "token": "/v1/acl/token/",
    "role": "/v1/acl/role/",
    "policy": "/v1/acl/policy/",
}


class Unknown(t.NamedTuple):
    """One entry that the platform did not make."""

    kind: str
    #: The accessor of a token, the name of an auth method, and the id of everything else. Never a secret.
    id: str
    details: t.Sequence[str] = ()

    @property
    def text(self) -> str:
        """The line that describes it to an operator."""
        return f"{self.kind} {shown(self.id)}: {'; '.join(self.details)}"

    @property
    def path(self) -> str:
        """The path of the call that deletes it."""
        return _KINDS[self.kind] + quote(self.id, safe="")


def find_unknown(held: Holdings, secrets: t.Collection[str]) -> tuple[Unknown, ...]:
    """Return what is not the platform's, in the order in which it has to be deleted.

    Args:
        held: what the cluster has.
        secrets: the secrets of all tokens that the platform has given out, the management token's among them.
    """
    found = [
        *(Unknown("auth method", str(one["Name"]), _details(one, [f"type {shown(one.get('Type'))}"])) for one in held.auth_methods),
        *(Unknown("binding rule", str(one["ID"]), _details(one, [_binding(one)])) for one in held.binding_rules),
        *(
            Unknown("token", str(one["AccessorID"]), _details(one, [_rights(one), *_origin(one)]))
            for one in held.tokens
            if one["AccessorID"] != ANONYMOUS and one.get("SecretID") not in secrets and not is_ours(one)
        ),
        *(Unknown("role", str(one["ID"]), _details(one, [_rights(one)])) for one in held.roles),
        *(
            Unknown("policy", str(one["ID"]), _details(one, []))
            for one in held.policies
            if one["ID"] not in BUILT_IN_POLICIES and not str(one["Name"]).startswith(PREFIX)
        ),
    ]
    return tuple(found)


def choose(found: t.Sequence[Unknown], words: t.Sequence[str]) -> tuple[Unknown, ...]:
    """Return the entries that an operator's list of ids, or the word for all of them, ends."""
    return tuple(one for one in found if ALL in words or one.id in words)


def missing(found: t.Sequence[Unknown], words: t.Sequence[str]) -> tuple[str, ...]:
    """Return the words that are no entry."""
    return tuple(sorted(set(words) - {ALL} - {one.id for one in found}))


def protected(held: Holdings, secrets: t.Collection[str], words: t.Sequence[str]) -> tuple[str, ...]:
    """Return what a list of ids contains of the platform's and of Consul's own: these are repaired or rotated, and never ended by it."""
    own = {str(one["AccessorID"]): str(one.get("Description")) for one in held.tokens if one["AccessorID"] == ANONYMOUS or one.get("SecretID") in secrets}
    own.update({str(one["ID"]): policy_name(one) for one in held.policies if one["ID"] in BUILT_IN_POLICIES})
    return tuple(f"{word} ({shown(own[word])})" for word in sorted(set(words)) if word in own)


def _details(entry: Entry, more: t.Sequence[str]) -> tuple[str, ...]:
    names = [f"{label} {_quoted(entry[key])}" for label, key in (("name", "Name"), ("description", "Description")) if entry.get(key)]
    times = [f"{label} {shown(entry[key])}" for label, key in (("made", "CreateTime"), ("ends", "ExpirationTime")) if entry.get(key)]
    return (*(names or ["no description"]), *more, *times)


def _quoted(value: t.Any) -> str:
    """Return a text in double quotes: Ansible's output in YAML writes single ones twice."""
    return json.dumps(shown(value), ensure_ascii=False)


def _rights(entry: Entry) -> str:
    """Return what a token or a role may, by the names of what gives it the rights."""
    parts = {
        "policies": map(policy_name, entry.get("Policies") or ()),
        "roles": (str(one.get("Name")) for one in entry.get("Roles") or ()),
        "service identities": (str(one.get("ServiceName")) for one in entry.get("ServiceIdentities") or ()),
        "node identities": (str(one.get("NodeName")) for one in entry.get("NodeIdentities") or ()),
        "templated policies": (str(one.get("TemplateName")) for one in entry.get("TemplatedPolicies") or ()),
    }
    named = {kind: sorted(map(shown, names)) for kind, names in parts.items()}
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in named.items() if names) or "no rights"


def _origin(token: Entry) -> list[str]:
    return [f"from auth method {shown(token['AuthMethod'])}"] if token.get("AuthMethod") else []


def _binding(rule: Entry) -> str:
    selector = f" where {shown(rule['Selector'])}" if rule.get("Selector") else ""
    return f"{shown(rule.get('AuthMethod'))} gives {shown(rule.get('BindType'))} {shown(rule.get('BindName'))}{selector}"


def shown(value: t.Any) -> str:
    """Return a text of the cluster as a terminal can print it, and not more of it than is needed."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
