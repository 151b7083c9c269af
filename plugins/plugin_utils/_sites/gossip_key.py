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
        holders: the hosts whose agent knows it.
        problem: why it cannot be told; empty when it can.
    """

    key: str
    left_behind: list[str]
    holders: list[str]
    problem: str = ""


def cluster_key(rings: t.Mapping[str, t.Sequence[str]], stored: str, unseen: int) -> ClusterKey:
    """Return the key of the cluster.

    Neither the secrets nor a single host decide: the secrets may be an older copy, and the disk of a host that of a
    snapshot from before a rotation. More than half of the hosts do; the secrets break a tie. A rotation installs its key
    everywhere, then uses it everywhere, and then removes the former one: until the last step, all agents know the stored key.

    Args:
        rings: the keys that the agent of each host of the play knows, first the one that it encrypts with; none on a new host.
        stored: the key among the secrets of the site; empty without one.
        unseen: how many further hosts the inventory has, which are not asked.
    """
    known = {host: ring for host, ring in rings.items() if ring}
    if not known:
        return ClusterKey(stored, [], [])
    half = (len(known) + unseen) / 2
    [(used, users)] = Counter(ring[0] for ring in known.values()).most_common(1)
    holders = sum(stored in ring for ring in known.values())
    if holders == len(known):
        key = stored
    elif users > half or (not stored and users == len(known)):
        key = used
    elif holders >= half:
        key = stored
    else:
        return ClusterKey("", [], [], _problem(sorted(host for host, ring in known.items() if stored not in ring), unseen))
    left_behind = sorted(host for host, ring in known.items() if key not in ring)
    return ClusterKey(key, left_behind, sorted(set(known) - set(left_behind)))


def _problem(hosts: t.Sequence[str], unseen: int) -> str:
    remedy = (
        "run the playbook without --limit, so that all hosts are compared"
        if unseen
        else "on each host whose key is wrong, stop consul and remove /var/lib/consul/serf/local.keyring, and run the playbook again"
    )
    return f"the agents of {', '.join(hosts)} do not know the gossip key in consul_gossip_key.txt of the secrets, and no key has a majority; {remedy}"
