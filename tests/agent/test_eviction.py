# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server whose disk somebody has copied: what the copy opens on a real cluster, and what closes it as evict_node.yml does."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "render"), str(ROOT / "tests" / "agent")]

from edge_rig import free_port, poll, tool
from test_datacenters_secure import Authority, new_key

from ansible_collections.trinode.platform.plugins.module_utils._consul import acl, cluster, security

SERVERS = {f"s{number}": f"127.0.14.{number}" for number in (1, 2, 3)}
STAY = ("s1", "s2")
#: Where the copy of the disk of s3 runs.
ELSEWHERE = "127.0.14.9"


class Agent:
    """A server of a secure cluster, configured as the role does it."""

    def __init__(self, site: Site, name: str, directory: Path, address: str) -> None:
        self.site, self.name, self.directory, self.address = site, name, directory, address
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "log"
        self.url = f"http://{address}:{site.ports['http']}"
        self.root = acl.AclApi(self.url, site.management)

    def configure(self) -> None:
        """Write the configuration, which holds no secret."""
        tls = {f"{what}_file": str(self.directory / f"{what}.pem") for what in ("ca", "cert", "key")}
        config: dict[str, t.Any] = {
            "server": True,
            "node_name": self.name,
            "bind_addr": self.address,
            "client_addr": self.address,
            "data_dir": str(self.directory / "data"),
            "bootstrap_expect": len(SERVERS),
            "retry_join": [f"{one}:{self.site.ports['serf_lan']}" for one in SERVERS.values() if one != self.address],
            "retry_interval": "1s",
            "ports": {**self.site.ports, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
            "disable_update_check": True,
            "performance": {"raft_multiplier": 1},
            "rejoin_after_leave": True,
            "skip_leave_on_interrupt": True,
            "encrypt_verify_incoming": True,
            "encrypt_verify_outgoing": True,
            "connect": {"enabled": False},
            "tls": {
                "defaults": {**tls, "verify_incoming": True, "verify_outgoing": True},
                "internal_rpc": {"verify_server_hostname": True},
            },
            "acl": {"enabled": True, "default_policy": "deny", "down_policy": "extend-cache", "tokens": {"agent": self.site.management}},
        }
        (self.directory / "consul.json").write_text(json.dumps(config), encoding="utf-8")

    def equip(self) -> None:
        """Write what the site trusts now: authority, certificate and gossip key."""
        (self.directory / "data" / "serf").mkdir(parents=True, exist_ok=True)
        (self.directory / "ca.pem").write_text(self.site.authority.pem)
        issued = self.site.authority.issue(self.directory / "issued", "server.dc1.consul", f"{self.name}.node.dc1.consul")
        for what in ("cert", "key"):
            shutil.copy(issued[f"{what}_file"], self.directory / f"{what}.pem")
        (self.directory / "data" / "serf" / "local.keyring").write_text(json.dumps([self.site.gossip]))

    def start(self) -> None:
        self.configure()
        with self.log.open("ab") as log:
            command = [tool("consul", "CONSUL_BIN"), "agent", f"-config-file={self.directory / 'consul.json'}"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """End the agent as a stopped unit does: it does not leave."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def call(self, path: str) -> t.Any:
        return self.root.call("GET", path)

    def answers(self) -> bool:
        """Whether the agent has a leader and knows the token."""
        try:
            return bool(self.call("/v1/acl/token/self") and self.call("/v1/operator/raft/configuration"))
        except (OSError, acl.Refused):
            return False

    def members(self) -> set[str]:
        return {one["Addr"] for one in self.call("/v1/agent/members") if one["Status"] == 1}

    def peers(self) -> set[str]:
        return {cluster.split_address(one["Address"]) for one in self.call("/v1/operator/raft/configuration")["Servers"]}

    def gossip_keys(self) -> list[str]:
        return list(json.loads((self.directory / "data" / "serf" / "local.keyring").read_text()))


class Site:
    """Three servers, and the copy of one."""

    def __init__(self, place: Path) -> None:
        self.ports = {name: free_port() for name in ("http", "https", "server", "serf_lan")}
        self.management = str(uuid.uuid4())
        self.authority, self.gossip = Authority("Consul dc1.consul"), new_key()
        self.agents: dict[str, Agent] = {}
        for name, address in SERVERS.items():
            (place / name).mkdir()
            self.agents[name] = Agent(self, name, place / name, address)
            self.agents[name].equip()
            self.agents[name].start()
        # Under another name, because the others keep the address of the former one for half a minute.
        self.copy = Agent(self, "another", place / "copy", ELSEWHERE)

    @property
    def staying(self) -> list[Agent]:
        return [self.agents[name] for name in STAY]

    def begin(self) -> None:
        """Wait until the cluster works, and steal the disk of s3, which is gone then."""
        assert acl.bootstrap(self.staying[0].root, 60).state == "made"
        poll("three servers vote", lambda: self.staying[0].peers() == {*SERVERS.values()}, 60)
        self.agents["s3"].stop()
        shutil.copytree(self.agents["s3"].directory, self.copy.directory)
        (self.copy.directory / "data" / "node-id").unlink()
        shutil.rmtree(self.copy.directory / "data" / "raft")
        poll("the others have a leader and know the token", lambda: all(one.answers() for one in self.staying), 60)

    def replace_all_trust(self) -> None:
        """Do what the playbook does: stop the servers that stay, give them other keys and a list of voters, start them."""
        self.authority, self.gossip = Authority("Consul dc1.consul, the next one"), new_key()
        for agent in self.staying:
            agent.stop()
        identities = {agent.name: (agent.directory / "data" / "node-id").read_text().strip() for agent in self.staying}
        peers = [{"id": identities[one.name], "address": f"{one.address}:{self.ports['server']}", "non_voter": False} for one in self.staying]
        for agent in self.staying:
            agent.equip()
            (agent.directory / "data" / "raft" / "peers.json").write_text(json.dumps(peers))
            agent.start()

    def end(self) -> None:
        for agent in (*self.agents.values(), self.copy):
            if agent.process is not None:
                agent.process.kill()
                agent.process.wait(20)
            if agent.log.exists():
                print(f"--- {agent.name} {agent.address}\n{agent.log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path) -> t.Iterator[Site]:
    site = Site(tmp_path)
    try:
        site.begin()
        yield site
    finally:
        site.end()


def stolen(site: Site) -> ssl.SSLContext:
    """What a caller with the certificate of s3 shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # With an older TLS the handshake itself says whether the certificate is believed, and not the first answer after it.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(site.copy.directory / "cert.pem", site.copy.directory / "key.pem")
    return context


def speaks_raft(site: Site, agent: Agent) -> bool:
    """Whether a server takes the stolen certificate on the port of Raft."""
    with socket.create_connection((agent.address, site.ports["server"]), timeout=10) as plain:
        # The byte of Consul's RPC for "now TLS".
        plain.sendall(b"\x03")
        try:
            with stolen(site).wrap_socket(plain):
                return True
        except (ssl.SSLError, ConnectionError):
            return False


class Caller:
    """A program that keeps its connection to the API, and the ticket with which TLS goes on without a certificate."""

    def __init__(self, site: Site, agent: Agent) -> None:
        self.site, self.agent, self.context = site, agent, stolen(site)
        self.connection = self._connect(None)
        assert self.ask() == 200
        self.session = self.connection.sock.session

    def _connect(self, session: ssl.SSLSession | None) -> http.client.HTTPConnection:
        plain = socket.create_connection((self.agent.address, self.site.ports["https"]), timeout=10)
        connection = http.client.HTTPConnection(self.agent.address)
        # A connection that was closed stays closed.
        connection.auto_open = 0
        connection.sock = self.context.wrap_socket(plain, session=session)
        return connection

    def ask(self) -> int:
        """Ask with the management token, which whoever has a server's disk has too; 0 when the connection is closed."""
        try:
            self.connection.request("GET", "/v1/acl/tokens", headers={"X-Consul-Token": self.site.management})
            answer = self.connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        return answer.status

    def resumes(self) -> bool:
        """Whether the ticket is taken for the certificate."""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            connection = self._connect(self.session)
            return bool(connection.sock.session_reused)
        return False


def test_renewed_certificates_leave_what_is_connected(site: Site) -> None:
    """An agent that only reads its files again goes on with connections of those that it does not believe any more."""
    agent = site.staying[0]
    caller = Caller(site, agent)
    assert caller.resumes(), "a ticket takes the place of the certificate as long as that is believed"
    site.authority = Authority("Consul dc1.consul, the next one")
    agent.equip()
    agent.root.call("PUT", "/v1/agent/reload")
    poll("the former authority is believed no more", lambda: not speaks_raft(site, agent))
    assert caller.ask() == 200, "an open connection outlives the authority that it was made with"
    agent.stop()
    agent.start()
    poll("the agent is back", lambda: speaks_tls(site, agent), 60)
    assert caller.ask() == 0
    assert not caller.resumes()


def speaks_tls(site: Site, agent: Agent) -> bool:
    """Whether the port of the API is open."""
    with contextlib.suppress(OSError), socket.create_connection((agent.address, site.ports["https"]), timeout=10):
        return True
    return False


def test_a_copy_gets_the_next_gossip_key_of_a_rotation(site: Site) -> None:
    """Consul sends the new key to all members, encrypted with the old one: a rotation does not end who has that."""
    site.copy.start()
    agent = site.staying[0]
    poll("the copy is a member", lambda: ELSEWHERE in agent.members(), 60)
    key = new_key()
    # The call counts s3 too, which is down, and sends the key all the same.
    with contextlib.suppress(security.GossipError):
        security.KeyringApi(agent.url, site.management).call("POST", key)
    poll("the copy has the key", lambda: key in site.copy.gossip_keys())


def test_what_is_trusted_is_replaced_at_once(site: Site) -> None:
    """While the copy is a server of the cluster, and its owner has a connection to the API."""
    site.copy.start()
    callers = [Caller(site, agent) for agent in site.staying]
    agent = site.staying[0]
    poll("the copy is a server of the cluster", lambda: ELSEWHERE in agent.peers() & agent.members(), 60)
    assert all(speaks_raft(site, one) for one in site.staying)
    agent.root.call("PUT", "/v1/kv/kept", "yes")

    site.replace_all_trust()

    remaining = {one.address for one in site.staying}

    def whole() -> bool:
        return all(one.answers() and one.members() == one.peers() == remaining for one in site.staying)

    poll("the servers that stay are the cluster", whole, 60)
    assert agent.call("/v1/kv/kept")[0]["Key"] == "kept"
    poll("the catalogue has no other node", lambda: {one["Node"] for one in agent.call("/v1/catalog/nodes")} == {*STAY})
    for one in site.staying:
        assert not speaks_raft(site, one)
        assert one.gossip_keys() == [site.gossip]
        poll("the try is in the log", lambda one=one: "No installed keys could decrypt the message" in one.log.read_text(errors="replace"), 60)
    assert [caller.ask() for caller in callers] == [0, 0]
    assert [caller.resumes() for caller in callers] == [False, False]
    # The copy goes on trying, and gets no further.
    poll("the copy has tried again", lambda: tries(site) > 2, 60)
    assert whole()
    assert site.gossip not in site.copy.gossip_keys()


def tries(site: Site) -> int:
    """How often a server has refused the gossip of the copy."""
    lines = site.staying[0].log.read_text(errors="replace").splitlines()
    return sum("No installed keys could decrypt" in line and ELSEWHERE in line for line in lines)
