# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens, policies and the key of the gossip against a real Consul agent that starts with none of them."""

from __future__ import annotations

import base64
import json
import os
import typing as t
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl, security
from ansible_collections.trinode.platform.plugins.module_utils._consul.cluster import ConsulApi

MANAGEMENT, READER, AGENT, KEYS = (str(uuid.uuid4()) for _number in range(4))
RULES = 'node_prefix "" {\n  policy = "read"\n}\nservice_prefix "" {\n  policy = "read"\n}\n'
WANTED = [
    acl.Wanted("reader", READER, RULES),
    acl.Wanted("agent-n", AGENT, node="n"),
    acl.Wanted("keys", KEYS, 'keyring = "write" node_prefix "" { policy = "read" }'),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[str]:
    directory = tmp_path_factory.mktemp("tokens")
    agent = Consul(tool("consul", "CONSUL_BIN"), directory, acl={"enabled": True, "default_policy": "deny"}, encrypt=base64.b64encode(os.urandom(32)).decode())
    try:
        yield f"http://{agent.address}"
    finally:
        agent.stop()


def bring_in_order(url: str, wanted: list[acl.Wanted], purge: bool = False) -> acl.Plan:
    client = acl.AclApi(url, MANAGEMENT)
    todo = acl.plan(wanted, client.policies(), client.tokens(), "dc1")
    acl.apply(client, todo, purge)
    return todo


def test_the_first_management_token_is_ours(url: str) -> None:
    client = acl.AclApi(url, MANAGEMENT)
    assert acl.bootstrap(client, 30).state == "made"
    assert acl.bootstrap(client, 30).state == "there"
    lost = acl.bootstrap(acl.AclApi(url, str(uuid.uuid4())), 30)
    assert lost.state == "lost" and lost.reset_index > 0


def test_tokens_are_made_once_and_mended(url: str) -> None:
    first = bring_in_order(url, WANTED)
    assert len(first.create) == 3 and len(first.policies) == 2
    assert bring_in_order(url, WANTED) == acl.Plan()
    # Somebody gives the reader more than it should have.
    client = acl.AclApi(url, MANAGEMENT)
    (reader,) = (token for token in client.tokens() if token["SecretID"] == READER)
    client.call("PUT", f"/v1/acl/token/{reader['AccessorID']}", {**reader, "Policies": [{"Name": "global-management"}]})
    assert len(bring_in_order(url, WANTED).update) == 1
    assert bring_in_order(url, WANTED) == acl.Plan()
    with pytest.raises(acl.Refused, match="403"):
        acl.AclApi(url, READER).call("GET", "/v1/acl/tokens")


def test_a_rotated_token_ends_with_a_purge(url: str) -> None:
    new = str(uuid.uuid4())
    wanted = [WANTED[0]._replace(secret=new), *WANTED[1:]]
    assert bring_in_order(url, wanted).surplus
    assert acl.AclApi(url, READER).call("GET", "/v1/acl/token/self")["Description"] == "trinode-reader"
    bring_in_order(url, wanted, purge=True)
    with pytest.raises(acl.Refused, match="403"):
        acl.AclApi(url, READER).call("GET", "/v1/acl/token/self")
    assert acl.AclApi(url, new).call("GET", "/v1/catalog/nodes")
    bring_in_order(url, WANTED, purge=True)


def test_an_unknown_token_counts_as_none(url: str) -> None:
    assert ConsulApi(url, str(uuid.uuid4())).request("/v1/catalog/nodes") == []
    assert len(ConsulApi(url, READER).request("/v1/catalog/nodes")) == 1


def test_the_key_of_the_gossip_is_rotated(url: str) -> None:
    bring_in_order(url, WANTED)
    api = security.KeyringApi(url, KEYS)
    new = base64.b64encode(os.urandom(32)).decode()
    assert security.rotate(api, new, security.alive(url, KEYS), 20) == 3
    assert security.rotate(api, new, 1, 20) == 0
    (ring,) = [ring for ring in api.rings() if ring.members][:1]
    assert ring.keys == {new: 1}
    with pytest.raises(security.GossipError, match="403") as caught:
        security.KeyringApi(url, READER).call("POST", new)
    assert json.dumps(new)[1:-1] not in str(caught.value)
