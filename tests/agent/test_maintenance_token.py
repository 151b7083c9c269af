# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client's maintenance token is enough to take its node out of service and back, on a real Consul agent."""

from __future__ import annotations

import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, poll, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl, maintenance
from ansible_collections.trinode.platform.plugins.module_utils._consul.acl_sync import Request, sync
from ansible_collections.trinode.platform.plugins.module_utils._consul.cluster import ConsulApi
from ansible_collections.trinode.platform.plugins.plugin_utils._sites.tokens import tokens

NODE = "worker-1"


def test_a_client_drains_itself(tmp_path: Path) -> None:
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path, node_name=NODE, acl={"enabled": True, "default_policy": "deny"})
    try:
        url = f"http://{agent.address}"
        rules = tokens([{"name": NODE, "consul": "client", "docker": True}], [])
        secrets = {one["name"]: str(uuid.uuid4()) for one in rules}
        root = acl.AclApi(url, str(uuid.uuid4()))
        assert acl.bootstrap(root, 30).state == "made"
        sync(root, Request([acl.Wanted(**one, secret=secrets[one["name"]]) for one in rules], "dc1"))
        root.call("PUT", "/v1/agent/token/agent", {"Token": secrets[f"agent-{NODE}"]})
        root.call("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80})
        other = {"Node": "worker-2", "Address": "127.0.0.2", "Service": {"Service": "web", "Port": 80}}
        root.call("PUT", "/v1/catalog/register", other)

        api = ConsulApi(url, secrets[f"maintenance-{NODE}"])
        poll("both instances are found", lambda: maintenance.nodes_of(maintenance.passing_of(api)["web"]) == {NODE, "worker-2"})
        assert maintenance.only_here(maintenance.passing_of(api), NODE) == [], "it sees the instances of other nodes"
        maintenance.set_maintenance(api, True, "test")
        assert maintenance.in_maintenance(api)
        poll("nobody finds the instance here", lambda: maintenance.still_here(maintenance.passing_of(api), NODE) == [])
        maintenance.set_maintenance(api, False, "")
        assert not maintenance.in_maintenance(api)
        poll("it is found again", lambda: maintenance.still_here(maintenance.passing_of(api), NODE) == ["web"])
    finally:
        agent.stop()
