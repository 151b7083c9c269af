# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stolen certificate of a client: the port of a server takes it, and lets nobody speak Raft with it."""

from __future__ import annotations

import socket
import ssl
import typing as t
from pathlib import Path

import pytest
from edge_rig import Consul, tool
from test_datacenters_secure import Authority

#: The first bytes of a connection to Consul's RPC: "now TLS" and, within that, "now Raft".
TLS, RAFT = b"\x03", b"\x01"
#: A request for a vote without a term, which is answered and changes nothing: its kind, and an empty map of MessagePack.
VOTE = b"\x01\x80"
REFUSED = 'operation="raft RPC"'


class Server(t.NamedTuple):
    """A server that demands certificates as the role configures it, and its authority."""

    consul: Consul
    authority: Authority
    place: Path

    def speaks_raft(self, name: str) -> bool:
        """Return whether the server answers a message of Raft from a caller whose certificate has this name."""
        certificate = self.authority.issue(self.place / name, name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        # With an older TLS a certificate that is not believed ends the handshake, and not the first read after it.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate["cert_file"], certificate["key_file"])
        port = int(self.consul.ask("GET", "/v1/agent/self")["DebugConfig"]["ServerPort"])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(TLS)
            with context.wrap_socket(plain) as connection:
                try:
                    connection.sendall(RAFT + VOTE)
                    return connection.recv(1) != b""
                except (ssl.SSLError, ConnectionError):
                    return False


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path) -> t.Iterator[Server]:
    authority = Authority("Consul dc1.consul")
    (tmp_path / "ca.pem").write_text(authority.pem)
    certificate = authority.issue(tmp_path / "own", "server.dc1.consul")
    demands = {"ca_file": str(tmp_path / "ca.pem"), **certificate, "verify_incoming": True, "verify_outgoing": True}
    consul = Consul(
        tool("consul", "CONSUL_BIN"),
        tmp_path,
        log_level="WARN",
        tls={"defaults": demands, "internal_rpc": {"verify_server_hostname": True}},
    )
    try:
        yield Server(consul, authority, tmp_path)
    finally:
        consul.stop()


def test_the_certificate_of_a_client_opens_no_raft(server: Server) -> None:
    assert server.speaks_raft("server.dc1.consul"), "the way that a copy of a server's disk goes"
    assert REFUSED not in server.consul.log.read_text()
    assert not server.speaks_raft("worker-1.node.dc1.consul")
    assert REFUSED in server.consul.log.read_text()
