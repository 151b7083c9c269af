# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role does about other data centres, run by Ansible itself against real Consul agents: its configuration, its gate, its prepared queries."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import Consul, free_port, poll, tool
from local_play import Done, play

ENTRY = """
- name: Role
  hosts: all
  gather_facts: false
  tasks:
    - name: Run the entry point
      ansible.builtin.include_role:
        name: trinode.platform.consul_server
        tasks_from: "{{ entry }}"
"""
CONFIGURATION = """
- name: Configuration
  hosts: all
  gather_facts: false
  vars_files: [ROLE/defaults/main.yml, ROLE/vars/main.yml]
  tasks:
    - name: Write it once Consul accepts it
      ansible.builtin.template:
        src: ROLE/templates/consul.json.j2
        dest: "{{ target }}"
        mode: "0600"
        validate: "{{ program }} validate -config-format=json %s"
"""
SECURED = (
    CONFIGURATION
    + """
    - name: Write what would be in the files
      ansible.builtin.copy:
        content: "{{ dict(__consul_server_secret_files.files | map(attribute='path') | zip(__consul_server_secret_files.contents)) | to_json }}"
        dest: "{{ secrets }}"
        mode: "0600"
"""
)
SECRETS = """
- name: Secrets
  hosts: all
  gather_facts: false
  vars_files: [ROLE/defaults/main.yml, ROLE/vars/main.yml]
  tasks:
    - name: Give the agent its secrets
      ansible.builtin.import_tasks: ROLE/tasks/secrets.yml
"""
DC2 = [{"name": "dc2", "servers": ["198.51.100.1", "198.51.100.2"]}]


def ansible(directory: Path, playbook: str, *arguments: str, **variables: t.Any) -> Done:
    return play(directory, playbook.replace("ROLE", str(ROOT / "roles" / "consul_server")), *arguments, **variables)


@pytest.fixture
def here(tmp_path: Path) -> t.Iterator[Consul]:
    made = Consul(tool("consul", "CONSUL_BIN"), tmp_path, wan=free_port(), datacenter="dc1")
    yield made
    made.stop()


def queries(here: Consul) -> dict[str, dict[str, t.Any]]:
    return {query["Name"]: query for query in here.ask("GET", "/v1/query") or []}


def test_prepared_queries(here: Consul, tmp_path: Path) -> None:
    theirs = here.ask("POST", "/v1/query", {"Name": "theirs", "Service": {"Service": "web"}})["ID"]
    shop = {"name": "shop", "near": "_agent", "failover": {"nearest_n": 1, "datacenters": ["dc2"]}}

    def keep(*arguments: str, wanted: list[dict[str, t.Any]]) -> Done:
        more = {"consul_server_http_port": here.port, "consul_server_health_timeout": 5, "consul_server_prepared_queries": wanted}
        return ansible(tmp_path, ENTRY, "--diff", *arguments, entry="prepared_queries", **more)

    said = keep("--check", wanted=[shop])
    assert said.status == 0 and said.changed and '+      "dc2"' in said.output.replace("+        ", "+      "), said.output
    assert set(queries(here)) == {"theirs"}
    done = keep(wanted=[shop])
    assert done.status == 0 and done.changed, done.output
    assert queries(here)["shop"]["Service"]["Failover"] == {"NearestN": 1, "Datacenters": ["dc2"], "Targets": None}
    again = keep(wanted=[shop])
    assert again.status == 0 and not again.changed, again.output
    mended = keep(wanted=[{**shop, "ttl": "10s"}])
    assert mended.changed and queries(here)["shop"]["DNS"] == {"TTL": "10s"}
    refused = keep(wanted=[shop, {"name": "theirs"}])
    assert refused.status != 0 and f"somebody else made a prepared query 'theirs' (id {theirs})" in refused.text
    assert queries(here)["shop"]["DNS"] == {"TTL": "10s"}, "nothing was changed"
    wrong = keep(wanted=[{**shop, "near": "no node"}])
    assert wrong.status != 0 and "near is 'no node', it must be a node" in wrong.text
    unknown = keep(wanted=[{**shop, "failover": {"nearest": 1}}])
    assert unknown.status != 0 and "nearest" in unknown.text
    assert keep(wanted=[]).changed
    assert set(queries(here)) == {"theirs"}
    assert not keep(wanted=[]).changed


def test_prepared_queries_without_an_agent(tmp_path: Path) -> None:
    more = {"consul_server_http_port": free_port(), "consul_server_health_timeout": 1, "consul_server_prepared_queries": [{"name": "shop"}]}
    done = ansible(tmp_path, ENTRY, entry="prepared_queries", **more)
    assert done.status != 0 and "does not tell the prepared queries" in done.text
    # Check mode on a bare host tells what would be done.
    done = ansible(tmp_path, ENTRY, "--check", entry="prepared_queries", **more)
    assert done.status == 0 and done.changed, done.output


def test_the_gate_warns_of_another_site_and_never_fails_for_it(here: Consul, tmp_path: Path) -> None:
    more = {
        "consul_server_http_port": here.port,
        "consul_server_node_name": "edge-under-test",
        "consul_server_servers": [{"name": "edge-under-test", "address": "127.0.0.1"}],
        "consul_server_wan_datacenters": DC2,
    }
    for arguments in ((), ("--check",)):
        done = ansible(tmp_path, ENTRY, *arguments, entry="health", **more)
        assert done.status == 0, done.output
        assert "edge-under-test: no server of the data centre dc2 (198.51.100.1, 198.51.100.2) is alive on the WAN" in done.text
    (tmp_path / "dc2").mkdir()
    members = here.ask("GET", "/v1/agent/members?wan=1")
    join = f"127.0.0.1:{members[0]['Port']}"
    there = Consul(tool("consul", "CONSUL_BIN"), tmp_path / "dc2", wan=free_port(), datacenter="dc2", retry_join_wan=[join])
    try:
        poll("the sites are joined", lambda: "dc2" in here.ask("GET", "/v1/catalog/datacenters"))
        done = ansible(tmp_path, ENTRY, entry="health", **more)
        assert done.status == 0 and "on the WAN" not in done.text, done.output
        # A client is not asked: it is no member of the WAN.
        assert ansible(tmp_path, ENTRY, entry="health", **{**more, "consul_server_mode": "client"}).status == 0
    finally:
        there.stop()


@pytest.mark.parametrize("mode", ["server", "client"])
def test_configuration(tmp_path: Path, mode: str) -> None:
    more = {
        "consul_server_mode": mode,
        "consul_server_node_name": "n1",
        "consul_server_address": "127.0.0.1",
        "consul_server_servers": [{"name": "n1", "address": "127.0.0.1"}],
        "consul_server_wan_datacenters": [*DC2, {"name": "dc3", "servers": ["203.0.113.1"]}],
    }
    for others in (more["consul_server_wan_datacenters"], []):
        done = ansible(
            tmp_path,
            CONFIGURATION,
            target=str(tmp_path / "consul.json"),
            program=tool("consul", "CONSUL_BIN"),
            **{**more, "consul_server_wan_datacenters": others},
        )
        assert done.status == 0, done.output
        written = json.loads((tmp_path / "consul.json").read_text())
        assert "serf_wan" not in written["ports"]
        expected = ["198.51.100.1", "198.51.100.2", "203.0.113.1"] if mode == "server" and others else None
        assert written.get("retry_join_wan") == expected


@pytest.mark.parametrize("mode", ["server", "client"])
@pytest.mark.parametrize("security", ["offer", "use", "require"])
def test_the_secure_configuration(tmp_path: Path, mode: str, security: str) -> None:
    more = {
        "consul_server_mode": mode,
        "consul_server_node_name": "n1",
        "consul_server_address": "127.0.0.1",
        "consul_server_servers": [{"name": "n1", "address": "127.0.0.1"}],
        "consul_server_security": security,
        "consul_server_tls_ca": "OWN",
        "consul_server_wan_authorities": "OTHERS",
        "consul_server_wan_gossip_key": "WAN",
        "consul_server_gossip_key": "LAN",
    }
    for others in (DC2, []):
        done = ansible(
            tmp_path,
            SECURED,
            target=str(tmp_path / "consul.json"),
            # The certificates are nowhere, and this Consul only says so.
            program="true ",
            secrets=str(tmp_path / "secrets.json"),
            **{**more, "consul_server_wan_datacenters": others},
        )
        assert done.status == 0, done.output
        written = json.loads((tmp_path / "consul.json").read_text())
        files = json.loads((tmp_path / "secrets.json").read_text())
        joined = mode == "server" and bool(others)
        assert written["ports"]["serf_wan"] == (8302 if joined else -1)
        assert written.get("retry_join_wan") == (["198.51.100.1", "198.51.100.2"] if joined else None)
        assert written["tls"]["internal_rpc"] == {
            "verify_server_hostname": security != "offer",
            **({"ca_file": "/etc/consul.d/tls/authorities.pem"} if joined else {}),
        }
        # Whoever calls the API must still have a certificate of this site.
        assert written["tls"]["defaults"]["ca_file"] == "/etc/consul.d/tls/ca.pem"
        assert files["/etc/consul.d/tls/ca.pem"] == "OWN\n"
        # A file without a content is removed.
        assert files["/etc/consul.d/tls/authorities.pem"] == ("OWN\nOTHERS\n" if joined else "")
        assert files["/var/lib/consul/serf/remote.keyring"] == ('["WAN"]' if joined else "")
        assert files["/var/lib/consul/serf/local.keyring"] == '["LAN"]'


@pytest.mark.parametrize("missing", ["consul_server_wan_gossip_key", "consul_server_wan_authorities"])
def test_a_secure_server_is_not_joined_without_keys(tmp_path: Path, missing: str) -> None:
    more = {
        "consul_server_security": "require",
        "consul_server_wan_datacenters": DC2,
        **dict.fromkeys(("consul_server_gossip_key", "consul_server_tls_ca", "consul_server_tls_certificate", "consul_server_tls_key"), "x"),
        **{name: "x" for name in ("consul_server_wan_gossip_key", "consul_server_wan_authorities") if name != missing},
        "consul_server_tokens": {"agent": "x"},
    }
    done = ansible(tmp_path, SECRETS, **more)
    assert done.status != 0
    assert f"consul_server_security of n1 is require, which needs {missing} for the other data centres in consul_server_wan_datacenters; give them" in done.text
