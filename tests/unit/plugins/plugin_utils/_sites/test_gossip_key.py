# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key counts when agents and secrets disagree."""

from __future__ import annotations

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._sites.gossip_key import ClusterKey, cluster_key

RINGS = {"c1": ["now"], "c2": ["now"], "c3": ["now"]}


@pytest.mark.parametrize(
    ("rings", "stored", "unseen", "key", "left_behind"),
    [
        pytest.param({}, "", 0, "", [], id="a new site"),
        pytest.param({"c1": [], "c2": []}, "now", 0, "now", [], id="secrets that were made before the agents"),
        pytest.param(RINGS, "now", 0, "now", [], id="all agree"),
        pytest.param({"c1": ["now"], "c2": []}, "now", 1, "now", [], id="a site that grows"),
        pytest.param({"c1": ["now"]}, "now", 2, "now", [], id="one host of three"),
        pytest.param(RINGS, "", 0, "now", [], id="secrets that were lost"),
        pytest.param({"c1": ["now"]}, "", 2, "now", [], id="secrets that were lost, and one host of three"),
        pytest.param(RINGS, "old", 0, "now", [], id="an older copy of the secrets"),
        pytest.param({**RINGS, "c1": ["old"]}, "now", 0, "now", ["c1"], id="a host from a snapshot"),
        pytest.param({**RINGS, "c1": ["old"]}, "old", 0, "now", ["c1"], id="a host from a snapshot, and an older copy of the secrets"),
        pytest.param({**RINGS, "c1": ["older"]}, "", 0, "now", ["c1"], id="a host from a snapshot, and no secrets"),
        pytest.param({"c1": ["old"], "c2": ["old"], "c3": ["old"]}, "now", 0, "old", [], id="all from snapshots"),
        pytest.param({"c1": ["old"], "c2": ["old"], "c3": ["now"]}, "now", 0, "old", ["c3"], id="two of three from snapshots: the cluster is theirs"),
        pytest.param({"c1": ["next", "now"], "c2": ["next", "now"], "c3": ["now", "next"]}, "now", 0, "now", [], id="a rotation under way"),
        pytest.param({"c1": ["next"], "c2": ["next"], "c3": ["next"]}, "now", 0, "next", [], id="a rotation that ended before its key was kept"),
        pytest.param({"c1": ["next"], "c2": ["next"], "c3": ["next", "now"]}, "now", 0, "next", [], id="one that had still to forget the former key"),
        pytest.param(
            {"c1": ["next"], "c2": ["next", "now"], "c3": ["next", "now"]}, "now", 0, "next", [], id="one that was interrupted while it removed the former key"
        ),
        pytest.param({"c1": ["next"], "c2": ["next", "now"]}, "now", 0, "next", [], id="the same with two hosts"),
        pytest.param({"c1": ["now"], "c2": ["old"]}, "now", 0, "now", ["c2"], id="two hosts that disagree: the secrets break the tie"),
        pytest.param({"c1": ["old"]}, "now", 0, "old", [], id="a site of one host is its own majority"),
    ],
)
def test_the_key_of_the_cluster(rings: dict[str, list[str]], stored: str, unseen: int, key: str, left_behind: list[str]) -> None:
    holders = sorted(host for host, ring in rings.items() if ring and host not in left_behind)
    assert cluster_key(rings, stored, unseen) == ClusterKey(key, left_behind, holders)


@pytest.mark.parametrize(
    ("rings", "stored", "unseen", "named", "remedy"),
    [
        pytest.param({"c2": ["old"]}, "now", 2, "c2", "without --limit", id="one host of three, from a snapshot or with an older copy of the secrets"),
        pytest.param({"c1": ["a"], "c2": ["b"]}, "now", 0, "c1, c2", "local.keyring", id="two that disagree, and neither with the secrets"),
        pytest.param({"c1": ["a"], "c2": ["b"]}, "", 1, "c1, c2", "without --limit", id="two that disagree, and no secrets"),
        pytest.param({"c1": ["now"], "c2": ["old"]}, "now", 2, "c2", "without --limit", id="two of four"),
    ],
)
def test_what_cannot_be_told_is_not_guessed(rings: dict[str, list[str]], stored: str, unseen: int, named: str, remedy: str) -> None:
    found = cluster_key(rings, stored, unseen)
    assert (found.key, found.left_behind, found.holders) == ("", [], [])
    assert found.problem.startswith(f"the agents of {named} do not know the gossip key") and remedy in found.problem
