# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restored snapshot brings back into the ACLs of a cluster: what was deleted after it was taken.

Private to the collection and pure. What the platform made is left out: its own comparison ends that where it is unwanted.
"""

from __future__ import annotations

import typing as t

from .acl import PREFIX
from .acl_held import Holdings
from .acl_unknown import Unknown, find_unknown

#: Among the kinds of what is remembered: the policies by which a cluster is known again.
_OWN_POLICIES = "platform"


class Comparison(t.NamedTuple):
    """What came back with a snapshot."""

    #: Whether it is a snapshot of this cluster. Then, what was not there before had been deleted.
    same_cluster: bool
    #: In the order in which it has to be deleted.
    revived: tuple[Unknown, ...]


def known(held: Holdings, own: str) -> dict[str, list[str]]:
    """Return what to remember of a cluster before a restore: identities by kind, and no secret.

    Args:
        held: what the cluster has.
        own: the secret of the token that was read with.
    """
    remembered: dict[str, list[str]] = {}
    for one in find_unknown(held, {own}):
        remembered.setdefault(one.kind, []).append(one.id)
    return {**remembered, _OWN_POLICIES: _own_policies(held)}


def compare(before: t.Mapping[str, t.Sequence[str]], held: Holdings, own: str) -> Comparison:
    """Find what was not there before the restore.

    The ids of the platform's policies are made once for a cluster and outlive every rotation, so they tell a snapshot
    of this cluster from one of a cluster that was lost.
    """
    same = not set(_own_policies(held)).isdisjoint(before.get(_OWN_POLICIES, ()))
    revived = (one for one in find_unknown(held, {own}) if one.id not in before.get(one.kind, ()))
    return Comparison(same, tuple(revived))


def _own_policies(held: Holdings) -> list[str]:
    return [str(one["ID"]) for one in held.policies if str(one["Name"]).startswith(PREFIX)]
