# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tokens a site has. What they can do is measured by tests/agent/test_token_calls.py."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.trinode.platform.plugins.filter.consul_tokens import FilterModule
from ansible_collections.trinode.platform.plugins.module_utils._consul import acl
from ansible_collections.trinode.platform.plugins.plugin_utils._sites import tokens as logic


def node(name: str, consul: str = "server", docker: bool = True) -> dict[str, t.Any]:
    return {"name": name, "consul": consul, "docker": docker}


NODES = [node("consul-1"), node("consul-2", docker=False), node("worker-1", "client"), node("edge-1", "none", docker=False)]


def test_each_node_has_tokens_of_its_own() -> None:
    names = [token["name"] for token in logic.tokens(NODES, ["billing"])]
    assert names == [
        *logic.SITE_WIDE,
        "agent-consul-1",
        "registrator-consul-1",
        "agent-consul-2",
        "agent-worker-1",
        "maintenance-worker-1",
        "registrator-worker-1",
        "service-billing",
    ]


def test_consul_acl_takes_them() -> None:
    tokens = logic.tokens(NODES, ["billing"])
    wanted = [acl.Wanted(**token, secret=f"{number:08d}-0000-4000-8000-000000000000") for number, token in enumerate(tokens)]
    acl.check(wanted, "99999999-0000-4000-8000-000000000000")
    assert {token["node"] for token in tokens if token["name"].startswith("agent-")} == {"consul-1", "consul-2", "worker-1"}


def test_the_registrator_writes_no_protected_service() -> None:
    (rules,) = (token["rules"] for token in logic.tokens([node("n")], ["billing", "consul"]) if token["name"] == "registrator-n")
    assert rules.count('service "consul" { policy = "read" }') == 1
    assert 'service "billing" { policy = "read" }' in rules


def test_a_client_changes_its_own_node_only() -> None:
    """No token that a client holds may write another node, the gossip keys, prepared queries or the cluster."""
    held = {token["name"]: token for token in logic.tokens(NODES, []) if token["name"].endswith("worker-1") or token["name"] in ("dns", "operator")}
    for token in held.values():
        written = [line for line in token["rules"].splitlines() if "write" in line]
        assert set(written) <= {'node "worker-1" { policy = "write" }', 'service_prefix "" { policy = "write" }'}, token["name"]


@pytest.mark.parametrize(
    ("nodes", "protected"),
    [
        ([node('n" { policy = "write" }')], []),
        ([node("n")], ['x" { policy = "write" } service "y']),
        ([node("n")], [""]),
    ],
)
def test_a_name_that_would_change_the_rules_is_refused(nodes: list[dict[str, t.Any]], protected: list[str]) -> None:
    with pytest.raises(AnsibleFilterError, match="cannot be part of an ACL rule"):
        FilterModule().filters()["consul_tokens"](nodes, protected)
