# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries every door of a secure site with the copy of a node's disk, over and over.

Runs on a host outside, with Python and Consul's program alone. What it finds at each try is one line of JSON on standard
output: the door, the node, and what was behind it. Its arguments are the directory of the copy, and the addresses of the
nodes; it ends when the file ``stop`` in that directory appears.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

RPC, HTTPS = 8300, 8501
#: The first bytes of a connection to RPC: "now TLS" and, within that, "now Raft".
TLS, RAFT = b"\x03", b"\x01"
SECONDS = 3.0


class Copy:
    """What is on the disk."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.certificate = place / "etc/consul.d/tls/certificate.pem"
        self.key = place / "etc/consul.d/tls/key.pem"
        self.tokens = dict(self._tokens())

    def _tokens(self) -> t.Iterator[tuple[str, str]]:
        given = json.loads((self.place / "etc/consul.d/tokens.json").read_text())["acl"]["tokens"]
        yield from given.items()
        for path in [*self.place.glob("etc/consul.d/*.token"), *self.place.glob("etc/registrator/consul.token")]:
            yield f"{path.parent.name}/{path.name}", path.read_text().strip()

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        # With an older TLS the handshake itself says whether the certificate is believed.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context

    def connect(self, address: str, port: int, first: bytes = b"") -> ssl.SSLSocket:
        plain = socket.create_connection((address, port), timeout=SECONDS)
        try:
            plain.sendall(first)
            return self.context().wrap_socket(plain)
        except BaseException:
            plain.close()
            raise

    def api(self, address: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        # A connection that was closed stays closed.
        connection.auto_open = 0
        connection.sock = self.connect(address, HTTPS)
        return connection


def ask(connection: http.client.HTTPConnection, token: str, method: str, path: str, body: t.Any = None) -> int:
    connection.request(method, path, None if body is None else json.dumps(body), {"X-Consul-Token": token})
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Intruder:
    """Everything that is tried at one node."""

    def __init__(self, copy: Copy, address: str) -> None:
        self.copy, self.address = copy, address
        self.kept = copy.api(address)
        self.raft = copy.connect(address, RPC, TLS)
        self.raft.sendall(RAFT)
        self.log = copy.api(address)
        self.log.request("GET", "/v1/agent/monitor?loglevel=trace", headers={"X-Consul-Token": copy.tokens["consul.d/operator.token"]})
        self.lines = self.log.getresponse()

    def tries(self) -> t.Iterator[tuple[str, t.Callable[[], bool]]]:
        yield "speak RPC and Raft", self.speaks
        yield "keep a connection to Raft", self.keeps_raft
        yield "keep a connection to the API", lambda: ask(self.kept, "", "GET", "/v1/status/leader") == 200
        yield "read the log", self.reads_log
        for name, token in self.copy.tokens.items():
            yield f"use the token {name}", lambda token=token: self.allowed(token, "GET", "/v1/acl/token/self")
        writer = self.copy.tokens["registrator/consul.token"]
        stolen = {"Name": "stolen", "ID": "stolen", "Port": 80, "Tags": ["http"]}
        yield "register a service", lambda: self.allowed(writer, "PUT", "/v1/agent/service/register", stolen)
        backup = self.copy.tokens["consul.d/backup.token"]
        yield "read all tokens", lambda: self.allowed(backup, "GET", "/v1/acl/tokens")

    def speaks(self) -> bool:
        with self.copy.connect(self.address, RPC, TLS):
            return True

    def keeps_raft(self) -> bool:
        """Whether the connection is open; the other side has nothing to say on it."""
        self.raft.settimeout(0.2)
        try:
            return self.raft.recv(1) != b""
        except TimeoutError:
            return True

    def reads_log(self) -> bool:
        """Whether the log goes on after what has arrived already."""
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            if not self.lines.read1(1 << 20):
                return False
        return True

    def allowed(self, token: str, method: str, path: str, body: t.Any = None) -> bool:
        connection = self.copy.api(self.address)
        try:
            return ask(connection, token, method, path, body) == 200
        finally:
            connection.close()


def member(place: Path, addresses: list[str], own: str) -> subprocess.Popen[bytes]:
    """Start a server that has the keys of the copy, and a name of its own."""
    data = place / "member"
    (data / "serf").mkdir(parents=True, exist_ok=True)
    (data / "serf/local.keyring").write_bytes((place / "var/lib/consul/serf/local.keyring").read_bytes())
    tls = {"ca_file": "ca.pem", "cert_file": "certificate.pem", "key_file": "key.pem"}
    config = {
        "server": True,
        "node_name": "stolen",
        "datacenter": "dc1",
        "bind_addr": own,
        "client_addr": "127.0.0.1",
        "data_dir": str(data),
        "bootstrap_expect": 3,
        "retry_join": addresses,
        "retry_interval": "1s",
        "encrypt_verify_incoming": True,
        "encrypt_verify_outgoing": True,
        "ports": {"dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
        "tls": {
            "defaults": {
                **{name: str(place / "etc/consul.d/tls" / file) for name, file in tls.items()},
                "verify_incoming": True,
                "verify_outgoing": True,
            },
            "internal_rpc": {"verify_server_hostname": True},
        },
        "acl": {"enabled": True, "default_policy": "deny", "tokens": {"agent": Copy(place).tokens["consul.d/backup.token"]}},
    }
    path = place / "member.json"
    path.write_text(json.dumps(config))
    with (place / "member.log").open("ab") as log:
        return subprocess.Popen(["consul", "agent", f"-config-file={path}"], stdout=log, stderr=log)


def say(door: str, node: str, opened: bool) -> None:
    print(json.dumps({"at": time.time(), "door": door, "node": node, "open": opened}), flush=True)


def watch(copy: Copy, address: str, stop: Path) -> None:
    """Try every door of one node until the end."""
    intruder = Intruder(copy, address)
    while not stop.exists():
        for door, attempt in intruder.tries():
            opened = False
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                opened = attempt()
            say(door, address, opened)
        time.sleep(0.2)


def main() -> None:
    """Entry point of the program."""
    place, addresses = Path(sys.argv[1]), sys.argv[2:]
    own = socket.gethostbyname(socket.gethostname())
    agent = member(place, addresses, own)
    threads = [threading.Thread(target=watch, args=(Copy(place), address, place / "stop")) for address in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agent.kill()
    agent.wait()


if __name__ == "__main__":
    main()
