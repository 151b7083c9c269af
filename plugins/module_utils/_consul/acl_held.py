# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gives rights in a Consul cluster: read all of it, and delete one entry. Private to the collection."""

from __future__ import annotations

import typing as t

from .acl import AclApi, AclError, Refused

Entry = t.Mapping[str, t.Any]


class Holdings(t.NamedTuple):
    """What Consul's lists return."""

    policies: t.Sequence[Entry] = ()
    tokens: t.Sequence[Entry] = ()
    roles: t.Sequence[Entry] = ()
    auth_methods: t.Sequence[Entry] = ()
    binding_rules: t.Sequence[Entry] = ()


def read(api: AclApi) -> Holdings:
    """Return all that gives rights in the cluster."""
    roles, methods, rules = (api.call("GET", f"/v1/acl/{kind}") or [] for kind in ("roles", "auth-methods", "binding-rules"))
    return Holdings(api.policies(), api.tokens(), roles, methods, rules)


def delete(api: AclApi, path: str) -> None:
    """Delete one entry; one that went with another, such as a rule with its auth method, is gone as wanted."""
    try:
        api.call("DELETE", path)
    except Refused as error:
        if error.status != 404 and "ACL not found" not in error.body:
            raise AclError(f"Consul did not end {path}: {error}") from error
