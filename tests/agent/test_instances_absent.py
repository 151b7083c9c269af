# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of a node leave the catalogue of a real Consul agent, with the token that servers have."""

from __future__ import annotations

import json
import typing as t
import uuid
from pathlib import Path

import local_play
from edge_rig import Consul, tool

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl
from ansible_collections.trinode.platform.plugins.module_utils._consul.acl_sync import Request, sync
from ansible_collections.trinode.platform.plugins.plugin_utils._sites.tokens import tokens

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - trinode.platform.consul_instances_absent:
        node: n1
        member: "{{ member }}"
        url: "{{ url }}"
        token_file: "{{ token_file }}"
        timeout: 2
"""
CHECKS = [{"CheckID": "_node_maintenance", "Name": "Node Maintenance Mode", "Status": "critical"}]


def register(root: acl.AclApi, node: str, *services: str) -> None:
    """Put services of a node into the catalogue, as an agent does that is not here."""
    for service in services:
        entry = {"Node": node, "Address": "127.0.0.2", "Service": {"ID": f"{node}:{service}", "Service": service, "Port": 80}, "Checks": CHECKS}
        root.call("PUT", "/v1/catalog/register", entry)


def test_the_services_go_and_the_node_stays(tmp_path: Path) -> None:
    agent = Consul(tool("consul", "CONSUL_BIN"), tmp_path, node_name="n1", acl={"enabled": True, "default_policy": "deny"})
    try:
        url = f"http://{agent.address}"
        rules = tokens([{"name": "n1", "consul": "server", "docker": True}], [])
        secrets = {one["name"]: str(uuid.uuid4()) for one in rules}
        root = acl.AclApi(url, str(uuid.uuid4()))
        assert acl.bootstrap(root, 30).state == "made"
        sync(root, Request([acl.Wanted(**one, secret=secrets[one["name"]]) for one in rules], "dc1"))
        register(root, "n2", "consul", "web", "db")
        register(root, "n3", "web")
        token_file = tmp_path / "token"

        def run(token: str, *arguments: str, member: str = "n2") -> local_play.Done:
            token_file.write_text(secrets[token], encoding="ascii")
            return local_play.play(tmp_path, PLAY, *arguments, url=url, token_file=str(token_file), member=member)

        def held(node: str) -> dict[str, t.Any]:
            return {str(service["Service"]): service for service in root.call("GET", f"/v1/catalog/node/{node}")["Services"].values()}

        refused = run("operator")
        assert refused.status != 0 and "Permission denied" in refused.text and "recover_quorum.yml" in refused.text, refused.output
        assert secrets["operator"] not in refused.output
        preview = run("automation", "--check")
        assert preview.status == 0 and preview.changed, preview.output
        assert set(held("n2")) == {"consul", "web", "db"}, "with --check, nothing is removed"

        done = run("automation", "-v")
        assert done.status == 0 and done.changed, done.output
        assert json.dumps(["n2:db", "n2:web"]) in done.text
        assert set(held("n2")) == {"consul"} and set(held("n3")) == {"web"}
        checks = root.call("GET", "/v1/health/node/n2")
        assert [check["CheckID"] for check in checks] == ["_node_maintenance"], "a drained node stays drained"

        again = run("automation")
        assert again.status == 0 and not again.changed, again.output
        unknown = run("automation", member="n9")
        assert unknown.status == 0 and not unknown.changed, unknown.output
    finally:
        agent.stop()
