# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a node that is gone."""

from __future__ import annotations

from ansible_collections.trinode.platform.plugins.module_utils._consul.member import traces

RAFT = [{"Node": "a", "ID": "id/a"}, {"Node": "b", "ID": "id-b"}]


def test_everything_goes_the_vote_first() -> None:
    found = traces("a", RAFT, [{"Name": "a"}, {"Name": "b"}], catalogued=True)
    assert [trace.what for trace in found] == ["a Raft peer", "a member", "in the catalogue"]
    assert found[0].path == "/v1/operator/raft/peer?id=id%2Fa"
    assert found[1].path == "/v1/agent/force-leave/a?prune=1"
    assert found[2].body == {"Node": "a"}


def test_nothing_is_left_of_a_node_that_nobody_knows() -> None:
    assert traces("c", RAFT, [{"Name": "a"}], catalogued=False) == []
