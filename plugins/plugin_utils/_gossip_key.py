# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key a cluster encrypts its gossip with, and which agents were left behind with a former one."""

from __future__ import annotations

import typing as t
from collections import Counter


class ClusterKey(t.NamedTuple):
    """What the agents say.

    Attributes:
        key: the key of the cluster; empty when there is none yet.
        left_behind: the hosts whose agent does not know it, and can read nothing that the others say.
        problem: why it cannot be told; empty when it can.
    """

    key: str
    left_behind: list[str]
    problem: str = ""


def cluster_key(rings: t.Mapping[str, t.Sequence[str]], stored: str, unseen: int) -> ClusterKey:
    """Return the key of the cluster.

    The cluster is right, and not the machine that the playbook runs on: its secrets may be an older copy. Nor is one
    host right: its disk may be that of a snapshot from before a rotation. So more than half of the hosts decide. While
    a rotation is under way, agents know two keys.

    Args:
        rings: the keys that the agent of each host of the play knows; the one that it encrypts with is the first. A host without any is new.
        stored: the key among the secrets of the site; empty without one.
        unseen: how many further hosts the inventory has, which are not asked.
    """
    known = {host: ring for host, ring in rings.items() if ring}
    if not known:
        return ClusterKey(stored, [])
    most = (len(known) + unseen) / 2
    (first, users), *_others = Counter(ring[0] for ring in known.values()).most_common(1)
    holders = sum(stored in ring for ring in known.values()) if stored else 0
    if stored and (holders == len(known) or holders > most):
        key = stored
    elif users > most or (not stored and users == len(known)):
        key = first
    else:
        others = sorted(host for host, ring in known.items() if stored not in ring)
        return ClusterKey(
            "",
            [],
            f"the agents of {', '.join(others)} do not know the key of the gossip in consul_gossip_key.txt of the secrets, and too few hosts"
            " are asked to tell which of them is right; run the playbook without --limit",
        )
    return ClusterKey(key, sorted(host for host, ring in known.items() if key not in ring))
