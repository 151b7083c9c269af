# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client can write into the logs of the edge, asked of a real nginx."""

from __future__ import annotations

import json
import socket
import ssl
import typing as t
from pathlib import Path

import pytest
from edge_rig import DOMAIN, Backends, Consul, Nginx, ask, free_port, poll

EdgeFixture = t.Callable[..., int]
#: Longer than what is logged, as long as nginx takes it: 64 kB for the request line and for each header.
LONG = 60_000
#: The most that one line may have, whatever a client sends.
LINE = 6_000


def ask_at_length(port: int, host: str, target: str, method: str = "GET", agent: bytes = b"a") -> bytes:
    """Send one request and return its answer."""
    request = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: ".encode()
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(request + agent + b"\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))


def lines_of(log: Path, count: int) -> list[bytes]:
    """Return the lines of an access log, once there are as many."""
    poll(f"{log} has {count} lines", lambda: log.exists() and log.read_bytes().count(b"\n") >= count)
    return log.read_bytes().splitlines()


def requests(port: int) -> int:
    """Send a request for each thing that a client chooses, at its full length. Returns their number."""
    host = f"web.{DOMAIN}"
    ask_at_length(port, host, "/" + "u" * LONG)
    ask_at_length(port, host, "/", method="M" * LONG)
    # Control characters take six as JSON.
    ask_at_length(port, host, "/", agent=b"\x01" * LONG)
    ask_at_length(port, f"{'h' * LONG}.{DOMAIN}", "/")
    ask_at_length(port, host, '/"\\' + '"\\' * LONG, agent=b'"\\' * (LONG // 2))
    return 5


@pytest.fixture(name="web")
def running_web(consul: Consul, backends: Backends) -> None:
    """An instance of the service web."""
    consul.register("web", backends.http("web").server_address[1], address="127.0.0.1")


@pytest.mark.usefixtures("web")
def test_a_line_of_json_is_bounded(edge: EdgeFixture, tmp_path: Path) -> None:
    lines = lines_of(tmp_path / "http.log", requests(edge()))
    assert max(map(len, lines)) <= LINE, [line[:300] for line in lines if len(line) > LINE]
    # Each worker writes its lines together, so they have no order.
    entries = [json.loads(line) for line in lines]
    long = {"uri": "/" + "u" * 1023, "method": "M" * 32, "agent": "\x01" * 256, "host": "h" * 255}
    for field, start in long.items():
        assert [entry[field] for entry in entries if entry[field].startswith(start)] == [f"{start}..."], field


@pytest.mark.usefixtures("web")
def test_a_line_of_text_is_bounded(edge: EdgeFixture, tmp_path: Path) -> None:
    lines = lines_of(tmp_path / "http.log", requests(edge(log_format="text")))
    assert max(map(len, lines)) <= LINE, [line[:300] for line in lines if len(line) > LINE]
    assert any(b'request="GET /' + b"u" * 1019 + b'..."' in line for line in lines)


@pytest.mark.usefixtures("web")
def test_what_is_short_is_logged_as_it_is(edge: EdgeFixture, tmp_path: Path) -> None:
    ask_at_length(edge(), f"web.{DOMAIN}", "/" + "u" * 1023, agent=b"a" * 256)
    (line,) = lines_of(tmp_path / "http.log", 1)
    entry = json.loads(line)
    assert entry["uri"] == "/" + "u" * 1023 and entry["agent"] == "a" * 256
    assert entry["method"] == "GET" and entry["host"] == f"web.{DOMAIN}"


def hello(name: str) -> bytes:
    """Return a TLS hello whose name is as long as wanted, which no library writes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="n.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    data, short, more = outgoing.read(), b"n.example", len(name) - len("n.example")
    at = data.index(short)
    # The lengths in front of the name, from the inside out: name, list, extension, extensions, handshake, record.
    fields = [(at - 2, 2), (at - 5, 2), (at - 7, 2), (6, 3), (3, 2)]
    extensions = 43 + 1 + data[43]
    extensions += 2 + int.from_bytes(data[extensions : extensions + 2], "big")
    extensions += 1 + data[extensions]
    made = bytearray(data)
    for place, size in [*fields, (extensions, 2)]:
        length = int.from_bytes(made[place : place + size], "big") + more
        made[place : place + size] = length.to_bytes(size, "big")
    return bytes(made).replace(short, name.encode())


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_name_in_a_tls_hello_is_bounded(edge: EdgeFixture, consul: Consul, backends: Backends, tmp_path: Path, log_format: str) -> None:
    own, _certificate = backends.tls("own", f"own.{DOMAIN}")
    consul.register("own", own.server_address[1], tags=["tls"], address="127.0.0.1")
    shared = free_port()
    edge([shared], tls_port=shared, log_format=log_format)
    before = (tmp_path / "tcp.log").read_bytes().count(b"\n")
    with socket.create_connection(("127.0.0.1", shared), 10) as client:
        client.sendall(hello("n" * 9_000 + ".example"))
        assert client.recv(100) == b""
    line = next(line for line in lines_of(tmp_path / "tcp.log", before + 1) if b"nnn" in line)
    assert b"n" * 255 + b'..."' in line and len(line) <= LINE


@pytest.mark.usefixtures("web")
def test_a_refusal_is_logged_once(edge: EdgeFixture, nginx: Nginx, tmp_path: Path) -> None:
    """In the access log, where it is counted. The error log has a line of up to 2 kB for it when it is asked for more than errors."""
    port = edge(rate_limit=1, rate_limit_burst=0)
    statuses = [ask(port, f"web.{DOMAIN}")[0] for _ in range(20)]
    refused = statuses.count(429)
    assert refused > 0
    found = lines_of(tmp_path / "http.log", len(statuses))
    assert sum(b'"limited":"rate_limit"' in line for line in found) == refused
    limiting = [line for line in (nginx.directory / "error.log").read_text().splitlines() if "limiting requests" in line]
    assert limiting and all("[info]" in line for line in limiting), limiting[:3]
