# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a secure platform is: it works for those who may, and does nothing for those who may not."""

from __future__ import annotations

import lab
import pytest
import registration
import secure

EVERYBODY = list(lab.NODES)


@pytest.mark.parametrize("node", EVERYBODY)
def test_nobody_without_a_token_gets_anything(node: str) -> None:
    assert secure.ask(node, "/v1/catalog/nodes").json() == []
    assert secure.ask(node, "/v1/catalog/services").json() == {}
    assert secure.ask(node, "/v1/kv/anything").status == 403
    assert secure.ask(node, "/v1/agent/self").status == 403
    assert secure.ask(node, "/v1/operator/raft/configuration").status == 403
    assert secure.ask(node, "/v1/operator/keyring").status == 403
    assert secure.ask(node, "/v1/acl/tokens").status == 403
    assert secure.ask(node, "/v1/agent/members").json() == []


@pytest.mark.parametrize("node", EVERYBODY)
def test_names_are_resolved_all_the_same(node: str) -> None:
    """By the host, and by whoever asks its agent."""
    for _try in range(20):
        assert lab.run(node, "getent hosts consul.service.dc1.consul").split()[0] in lab.NODES.values()
    assert lab.run(node, "getent hosts consul-2.node.dc1.consul").split()[0] == lab.NODES["consul-2"]


@pytest.mark.parametrize("node", EVERYBODY)
def test_the_agent_answers_where_it_should(node: str) -> None:
    listening = {line.split()[3] for line in lab.run(node, "ss -Htln").splitlines()}
    address = lab.NODES[node]
    assert "127.0.0.1:8500" in listening
    assert f"{address}:8501" in listening
    assert not [one for one in listening if one.endswith((":8302", ":8502", ":8503"))]
    assert not [one for one in listening if one.endswith(":8500") and not one.startswith("127.0.0.1:")]


@pytest.mark.parametrize("node", EVERYBODY)
def test_nothing_is_left_of_the_first_token(node: str) -> None:
    """Not on the disk, nor in the command of the agent, nor in the cluster."""
    command = "tr '\\0' ' ' </proc/$(systemctl show --property=MainPID --value consul)/cmdline"
    assert "initial.json" not in lab.run(node, f"ls /etc/consul.d; systemctl cat consul.service; {command}")
    assert not (lab.SECRETS / "consul_token_initial.txt").exists()
    tokens = secure.ask(node, "/v1/acl/tokens", secure.token("management")).json()
    full = [one for one in tokens if any(policy["Name"] == "global-management" for policy in one.get("Policies") or ())]
    assert len(full) == 1 and full[0]["SecretID"] == secure.token("management")


@pytest.mark.parametrize("node", EVERYBODY)
def test_nobody_can_make_a_management_token(node: str) -> None:
    assert secure.ask(node, "/v1/acl/bootstrap", method="PUT").status == 403


def test_gossip_is_encrypted_with_one_key() -> None:
    (ring,) = secure.ask("consul-1", "/v1/operator/keyring", secure.token("keyring")).json()
    assert ring["Keys"] == {secure.secret("consul_gossip_key"): 3}
    assert ring["PrimaryKeys"] == ring["Keys"]


@pytest.mark.parametrize("node", EVERYBODY)
def test_the_agent_demands_what_it_should(node: str) -> None:
    config = secure.ask(node, "/v1/agent/self", secure.token("operator")).json()["DebugConfig"]
    tls = config["TLS"]
    assert config["ACLsEnabled"] and config["ACLResolverSettings"]["ACLDefaultPolicy"] == "deny"
    assert tls["InternalRPC"]["VerifyIncoming"] and tls["InternalRPC"]["VerifyOutgoing"] and tls["InternalRPC"]["VerifyServerHostname"]
    assert tls["HTTPS"]["VerifyIncoming"]


def test_whoever_has_a_certificate_and_a_token_is_served() -> None:
    """As a program on another machine would be, through HTTPS."""
    command = (
        "cd /etc/consul.d/tls && curl -sSf --cacert ca.pem --cert certificate.pem --key key.pem"
        " --header @/dev/stdin --connect-to localhost:8501:{address}:8501 https://localhost:8501/v1/catalog/nodes"
    )
    for address in lab.NODES.values():
        answer = lab.run("consul-3", f"printf 'X-Consul-Token: %s' \"$(cat /etc/consul.d/operator.token)\" | ( {command.format(address=address)} )")
        assert '"consul-1"' in answer


def test_the_command_line_works_for_root() -> None:
    assert "leader" in lab.run("consul-1", "CONSUL_HTTP_TOKEN_FILE=/etc/consul.d/operator.token consul operator raft list-peers")


@pytest.mark.parametrize(
    ("reader", "path", "allowed"),
    [
        ("consul-template", "/v1/health/service/consul", True),
        ("consul-template", "/v1/operator/raft/configuration", False),
        ("registrator-consul-1", "/v1/kv/anything", False),
        ("registrator-consul-1", "/v1/acl/tokens", False),
        ("operator", "/v1/operator/raft/configuration", True),
        ("operator", "/v1/operator/keyring", False),
        ("operator", "/v1/kv/anything", False),
        ("dns", "/v1/agent/self", False),
        ("automation", "/v1/acl/tokens", False),
        ("automation", "/v1/operator/keyring", False),
        ("agent-consul-1", "/v1/operator/raft/configuration", False),
        ("backup", "/v1/snapshot", True),
    ],
)
def test_each_token_has_its_own_rights_and_no_other(reader: str, path: str, allowed: bool) -> None:
    if path == "/v1/snapshot":
        # Binary, and all of the cluster's secrets: only its size leaves the node.
        answer = secure.ask("consul-1", path, secure.token(reader), size_only=True)
        assert answer.status == 200 and int(answer.body) > 1000
        return
    assert (secure.ask("consul-1", path, secure.token(reader)).status == 200) is allowed


@pytest.mark.parametrize("path", ["/v1/agent/service/register", "/v1/catalog/register"])
def test_an_agent_speaks_for_its_own_node_only(path: str) -> None:
    body = {"Name": "foreign"} if "agent" in path else {"Node": "consul-2", "Address": "192.0.2.66"}
    assert secure.ask("consul-1", path, secure.token("agent-consul-1"), "PUT", body).status == 403


def test_containers_are_registered_and_leave() -> None:
    node = registration.Node("consul-3", "sec-")
    try:
        node.start("web", "-p 8080 --label SERVICE_NAME=sec-web")

        def instances() -> int:
            return len(secure.ask("consul-1", "/v1/catalog/service/sec-web", secure.token("operator")).json())

        lab.wait_for(lambda: instances() == 1, 10, "the container is in the catalogue", lambda: lab.journal("consul-3", "registrator"))
        lab.run("consul-1", "getent hosts sec-web.service.dc1.consul")
        node.run("docker rm -f sec-web")
        lab.wait_for(lambda: instances() == 0, 10, "the container is out of the catalogue", lambda: lab.journal("consul-3", "registrator"))
    finally:
        node.run("docker ps -aq --filter name=^sec- | xargs -r docker rm -f")


def test_a_second_run_changes_nothing_and_check_mode_neither() -> None:
    for arguments in ((), ("--check", "--diff")):
        run = secure.play("site", *arguments)
        assert run.status == 0, run.output[-4000:]
        assert run.changed == 0, run.changes()


def test_the_acceptance_passes(tmp_path: object) -> None:
    run = secure.play("acceptance", acceptance_report_dir=str(tmp_path), acceptance_keep_services=True)
    assert run.status == 0, run.output[-6000:]
