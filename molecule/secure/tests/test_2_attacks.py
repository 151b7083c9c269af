# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks from a container on a node and from a host outside: each is refused, and a log says so."""

from __future__ import annotations

import json

import lab
import pytest
import registration
import secure

NODE = "consul-3"
ADDRESS = lab.NODES[NODE]


@pytest.fixture(scope="module", name="container")
def fixture_container() -> registration.Node:
    """A node on which containers run as anybody with the right to use Docker would start them."""
    return registration.Node(NODE, "evil-")


def test_a_host_outside_does_not_reach_the_api(outsider: str) -> None:
    assert outsider
    for port in (8500, 8502, 8503):
        assert "status=7" in secure.outside(f"curl -s -m 5 http://{ADDRESS}:{port}/v1/catalog/nodes"), "curl says 7 for a refused connection"


def test_a_host_outside_without_a_certificate_is_refused_by_https(outsider: str) -> None:
    assert outsider
    # Consul itself writes no line about a handshake that it refuses; the connection ends. 7 and 28 would be a port that nobody listens on.
    said = secure.outside(f"curl -sk -m 5 https://{ADDRESS}:8501/v1/catalog/nodes")
    assert said in ("status=35", "status=52", "status=55", "status=56"), said


def test_a_host_outside_does_not_join_as_a_server(outsider: str) -> None:
    """Neither without a key nor with one of its own."""
    assert outsider
    for arguments in ("", "-encrypt $(consul keygen)"):
        since = secure.clock(NODE)
        said = secure.outside(
            f"rm -rf /tmp/evil; timeout 12 consul agent -server -data-dir /tmp/evil -node evil -datacenter dc1 {arguments}"
            f" -bind $(hostname -i) -client 127.0.0.1 -retry-join {ADDRESS} -retry-max 2 -retry-interval 1s"
        )
        assert "agent: Join" not in said or "failed" in said or "refused" in said, said[-2000:]
        refused = "remote state is not encrypted" if not arguments else "No installed keys could decrypt the message"
        secure.said(NODE, "consul", refused, since)
    members = {member["Name"] for member in secure.ask(NODE, "/v1/agent/members", secure.token("operator")).json()}
    assert members == set(lab.NODES)
    peers = secure.ask(NODE, "/v1/operator/raft/configuration", secure.token("operator")).json()["Servers"]
    assert {peer["Node"] for peer in peers} == set(lab.NODES)


def test_a_host_outside_does_not_speak_rpc(outsider: str) -> None:
    """Port 8300 without TLS: a Raft message of anybody would be the end of the cluster."""
    assert outsider
    since = secure.clock(NODE)
    # The byte for Consul's own RPC, and the one for Raft; then until the server has ended the connection.
    for kind in ("\\001", "\\002"):
        secure.outside(f"printf '{kind}' | timeout 3 bash -c 'exec 3<>/dev/tcp/{ADDRESS}/8300; cat >&3; cat <&3'")
    secure.said(NODE, "consul", "Non-TLS connection attempted with VerifyIncoming set", since)


def test_a_container_on_the_host_network_registers_nothing(container: registration.Node) -> None:
    """It reaches the agent on loopback, as a host's own program does, and has no token."""
    since = secure.clock(NODE)
    body = json.dumps({"Name": "billing", "Address": "192.0.2.66", "Port": 80, "Tags": ["http"]})
    for path in ("agent/service/register", "catalog/register"):
        # There is no curl in the container; what it could send is sent from its network, which is the host's.
        container.start("net", "--net=host")
        process = container.run("docker inspect -f '{{.State.Pid}}' evil-net")
        status = container.run(
            f"nsenter -t {process} -n curl -s -o /dev/null -w '%{{http_code}}' -X PUT --data '{body}' http://127.0.0.1:8500/v1/{path}", check=False
        )
        container.run("docker rm -f evil-net >/dev/null")
        assert status in ("400", "403"), status
    secure.said(NODE, "consul", "anonymous token lacks permission 'service:write' on", since)
    assert secure.ask(NODE, "/v1/catalog/service/billing", secure.token("operator")).json() == []


def test_a_container_does_not_reach_the_api_of_its_node(container: registration.Node) -> None:
    container.start("bridge")
    try:
        process = container.run("docker inspect -f '{{.State.Pid}}' evil-bridge")
        for address in (ADDRESS, "172.17.0.1"):
            refused = container.run(f"nsenter -t {process} -n curl -s -m 5 http://{address}:8500/v1/catalog/nodes; echo status=$?", check=False)
            assert "status=7" in refused
    finally:
        container.run("docker rm -f evil-bridge >/dev/null")


def test_nobody_reads_or_writes_the_key_value_store() -> None:
    since = secure.clock(NODE)
    assert secure.ask(NODE, "/v1/kv/secret").status == 403
    assert secure.ask(NODE, "/v1/kv/secret", method="PUT", body="x").status == 403
    assert secure.ask(NODE, "/v1/kv/?recurse").status in (403, 404)
    secure.said(NODE, "consul", "anonymous token lacks permission 'key:read' on", since)
    secure.said(NODE, "consul", "anonymous token lacks permission 'key:write' on", since)


@pytest.mark.parametrize("name", ["consul", "CONSUL", "Billing", "c0nsul", "bi11ing", "bil-ling"])
def test_a_label_does_not_claim_a_reserved_or_protected_name(container: registration.Node, name: str) -> None:
    """Nor another spelling of it, which tokens distinguish and DNS does not, nor a name that looks like it."""
    since = secure.clock(NODE)
    container.start("consul", f"-p 8080 --label SERVICE_NAME={name}")
    try:
        secure.said(NODE, "registrator", "event=refused", since)
        assert secure.ask(NODE, "/v1/catalog/service/billing", secure.token("operator")).json() == []
        instances = secure.ask(NODE, "/v1/catalog/service/consul", secure.token("operator")).json()
        assert sorted(one["Node"] for one in instances) == sorted(lab.NODES)
    finally:
        container.run("docker rm -f evil-consul >/dev/null")


def test_the_general_token_does_not_claim_a_protected_name() -> None:
    body = {"ID": "x", "Name": "billing", "Port": 1}
    assert secure.ask(NODE, "/v1/agent/service/register", secure.token(f"registrator-{NODE}"), "PUT", body).status == 403
    assert secure.ask(NODE, "/v1/agent/service/register", secure.token("service-billing"), "PUT", body).status == 200
    assert secure.ask(NODE, "/v1/agent/service/deregister/x", secure.token("service-billing"), "PUT").status == 200


def test_a_stolen_token_puts_no_lookalike_at_an_edge() -> None:
    """Past the registration, which refuses the name: Consul's rights do not know how a name looks."""
    body = {"ID": "lookalike", "Name": "bi11ing", "Tags": ["http"], "Address": ADDRESS, "Port": 80}
    stolen = secure.token(f"registrator-{NODE}")
    assert secure.ask(NODE, "/v1/agent/service/register", stolen, "PUT", body).status == 200
    try:
        for edge in lab.EDGES:
            lab.wait_for(
                lambda edge=edge: "the name looks like that of protected service billing" in lab.run(edge, "nginx-edge-apply --status", check=False),
                30,
                f"{edge} reports the name",
                lambda edge=edge: lab.run(edge, "nginx-edge-apply --status", check=False),
            )
            status = lab.run(edge, "curl -s -o /dev/null -w '%{http_code}' -H 'Host: bi11ing.apps.hospital.example' http://127.0.0.1/")
            assert status == "404"
    finally:
        assert secure.ask(NODE, "/v1/agent/service/deregister/lookalike", stolen, "PUT").status == 200


def test_a_label_does_not_poison_the_edge(container: registration.Node) -> None:
    since = secure.clock(NODE)
    container.start("poison", "-p 8080 --label SERVICE_TAGS=http --label 'SERVICE_NAME=x; } server { listen 81; }'")
    try:
        secure.said(NODE, "registrator", "event=refused", since)
        for edge in lab.EDGES:
            assert "listen 81" not in lab.run(edge, "nginx -T 2>/dev/null")
            assert ":81" not in [line.split()[3][-3:] for line in lab.run(edge, "ss -Htln").splitlines()]
    finally:
        container.run("docker rm -f evil-poison >/dev/null")


def test_only_those_who_may_read_the_files_of_the_secrets() -> None:
    own = {"consul": "/etc/consul.d/tokens.json", "registrator": "/etc/registrator/consul.token", "consul-template": "/etc/consul-template.d/consul.token"}
    for node in lab.NODES:
        # Not every node is an edge.
        users = [user for user in ("nobody", *own) if lab.run(node, f"id -u {user} >/dev/null 2>&1 && echo yes || echo no") == "yes"]
        assert len(users) >= 3
        for user in users:
            for reader, path in own.items():
                if reader in users:
                    readable = lab.run(node, f"runuser -u {user} -- test -r {path} && echo yes || echo no")
                    assert readable == ("yes" if reader == user else "no"), f"{node}: {user} and {path}"
            assert lab.run(node, f"runuser -u {user} -- test -r /etc/consul.d/operator.token && echo yes || echo no") == "no"


def test_dockers_socket_goes_to_the_engine_only() -> None:
    for node in lab.NODES:
        assert lab.run(node, "getent group docker").split(":")[3] == "registrator"
        assert lab.run(node, "stat -c '%a %U:%G' /var/run/docker.sock") == "660 root:docker"


# Tries again what the server refuses or ends. There is no Python in the container; what it could do is done from its network.
_FLOOD = """
import socket, sys, time
address, most = sys.argv[1], int(sys.argv[2])
held = []
while True:
    while len(held) < most:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((address, 8300))
        held.append(one)
    time.sleep(0.05)
    kept = []
    for one in held:
        try:
            if one.recv(1):
                kept.append(one)
        except BlockingIOError:
            kept.append(one)
        except OSError:
            pass
    held = kept
"""


def test_a_container_does_not_shut_its_node_out_of_the_cluster(container: registration.Node) -> None:
    """Other servers see its connections with the address of its node, and Consul counts connections by address."""
    leader = secure.ask("consul-1", "/v1/status/leader", secure.token("operator")).json().split(":")[0]
    target = leader if leader != ADDRESS else lab.NODES["consul-1"]
    container.start("rpc")
    container.run("cat > /tmp/flood.py << 'END'\n" + _FLOOD + "END")
    process = container.run("docker inspect -f '{{.State.Pid}}' evil-rpc")
    # More than Consul lets one address have.
    container.run(f"systemd-run --quiet --collect --unit=flood-rpc nsenter -t {process} -n python3 /tmp/flood.py {target} 300")
    try:
        sockets = f"nsenter -t {process} -n ss -Htn state %s dport = :8300 | wc -l"
        lab.wait_for(lambda: int(container.run(sockets % "syn-sent")) >= 300, 30, "connections are tried")
        lab.run(NODE, "systemctl restart consul")

        def is_well() -> bool:
            servers = secure.ask("consul-1", "/v1/operator/autopilot/health", secure.token("operator")).json()["Servers"]
            return any(server["Name"] == NODE and server["Healthy"] for server in servers)

        lab.wait_for(is_well, 60, f"{NODE} is a healthy server", lambda: lab.journal(NODE, "consul"))
        container.start("late", "-p 8080 --label SERVICE_NAME=late")
        lab.wait_for(
            lambda: secure.ask("consul-1", "/v1/catalog/service/late", secure.token("operator")).json(),
            60,
            "a new container is in the catalogue",
            lambda: lab.journal(NODE, "consul", "registrator"),
        )
        assert container.run(sockets % "established") == "0"
        assert container.run("systemctl is-active flood-rpc") == "active"
        assert "counter packets 0 " not in container.run("nft list table inet container_ports")
    finally:
        container.run("systemctl stop flood-rpc; rm -f /tmp/flood.py; docker rm -f evil-rpc evil-late >/dev/null 2>&1", check=False)
