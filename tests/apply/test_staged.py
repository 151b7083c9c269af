# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on root by the user who fills the staging directory, and by any other: each took effect once."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from apply_rig import Edge


class Outside:
    """What is not the edge's: a directory of root, and a socket that belongs to another service."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # nginx's workers could pass.
        directory.mkdir(mode=0o711)
        self.keys = directory / "authorized_keys"
        self.keys.write_text("ssh-ed25519 AAAA root\n")
        self.values = directory / "values"
        self.values.write_text("a 1;\n")
        self.socket = directory / "service.sock"
        self.reached = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.socket.chmod(0o666)
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        self.before = self.picture()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.reached += 1
            connection.close()

    def picture(self) -> dict[str, bytes]:
        """Return every file, with what it holds."""
        return {path.name: path.read_bytes() if path.is_file() else b"" for path in self.directory.iterdir()}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    """What must stay as it is."""
    made = Outside(tmp_path / "outside")
    yield made
    made.listener.close()


def still_served(edge: Edge) -> bool:
    """Whether the services of the ``serving`` edge answer."""
    return edge.ask("one") == (200, "one") and edge.ask("two") == (200, "two") and edge.ask_tcp() == "hello"


def refused(edge: Edge, http: str, expected: str, stream: str = "") -> None:
    """Stage something, and see that it is refused with one line that says what, where and what to do."""
    edge.stage(edge.http("one", "two") + http, edge.stream() + stream)
    result = edge.apply("--strict")
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "staged", True), result
    assert expected in result["message"] and result["message"].isprintable()
    assert f"staged {'stream' if stream else 'http'}.conf, line " in result["message"]
    assert still_served(edge)


def test_a_geo_block_writes_no_file_through_a_link(serving: Edge, outside: Outside) -> None:
    """nginx keeps the ranges of an included file beside it, as root, in a file NAME.bin, which may be a link."""
    staging = serving.state / "staging"
    addresses = itertools.product(range(2), range(256), range(256))
    (staging / "evil").write_text(
        "".join(f"10.{high}.{low}.{last}-10.{high}.{low}.{last} 1;\n" for high, low, last in addresses) + '11.0.0.0-11.0.0.1 "\nssh-ed25519 AAAA attacker\n";\n'
    )
    http = f"geo $remote_addr $edge_x {{ ranges; default 0; include {staging}/evil; }}\n"
    refused(serving, http, '"ranges" is not allowed in "geo"')
    (staging / "evil.bin").symlink_to(outside.keys)
    serving.stage(serving.http("one", "two") + http)
    result = serving.apply("--strict")
    assert (result["outcome"], result["blame"]) == ("failed", "staged")
    assert f"{staging}/evil.bin is a symbolic link; only regular files" in result["message"]
    assert outside.picture() == outside.before and still_served(serving)


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        ("map $host $edge_x {{ include {values}; }}", '" is not allowed in "map"'),
        ("map $host $edge_x {{ 'include' {values}; }}", '" is not allowed in "map"'),
        ("geo $remote_addr $edge_x {{ include {values}; }}", '" is not allowed in "geo"'),
        ("types {{ include {values}; }}", 'directive "types" is not allowed at the outermost level of the http side'),
        ("charset_map a b {{ include {values}; }}", 'directive "charset_map" is not allowed'),
        ("server {{ types {{ include {values}; }} }}", 'directive "types" is not allowed in "server"'),
    ],
)
def test_a_block_of_values_reads_no_file(serving: Edge, outside: Outside, http: str, expected: str) -> None:
    refused(serving, http.format(values=outside.values) + "\n", expected)


@pytest.mark.parametrize("name", ["UNIX:", "Unix:", "unix:"])
def test_no_socket_of_others_is_made_or_reached(serving: Edge, outside: Outside, name: str) -> None:
    server = f"server {{ listen 127.0.0.1:{serving.http_port}; server_name evil.test; "
    refused(serving, f"server {{ listen {name}{outside.directory}/evil.sock; }}\n", '" is not allowed in "server"')
    location = f"location / {{ proxy_pass http://{name}{outside.socket}:/; }}"
    refused(serving, f"{server} {location} }}\n", '" is not allowed in "location"')
    refused(serving, f"upstream evil {{ server {name}{outside.socket}; }}\n", '" is not allowed in "upstream"')
    stream = f"server {{ listen 127.0.0.1:1; proxy_pass {name}{outside.socket}; }}\n"
    refused(serving, "", '" is not allowed in "server"', stream)
    route = f'set $edge_service "ix:{outside.socket}:/"; location / {{ proxy_pass http://un$edge_service; }} }}\n'
    refused(serving, server + route, '" is not allowed in "server"')
    serving.ask("evil")
    assert outside.reached == 0 and outside.picture() == outside.before


def test_requests_go_to_no_upstream_of_the_operator(serving: Edge, outside: Outside) -> None:
    """An upstream in a file of root may lead to any socket."""
    (serving.etc / "conf.d" / "php.conf").write_text(f"upstream php {{ server unix:{outside.socket}; }}\n")
    server = f"server {{ listen 127.0.0.1:{serving.http_port}; server_name evil.test; "
    refused(serving, f"{server} location / {{ proxy_pass http://php; }} }}\n", '"php" is not an upstream of this file')
    refused(serving, f'{server} set $edge_upstream "php"; }}\n', '"php" is not an upstream of this file')
    assert outside.reached == 0


def test_loopback_stays_closed_to_the_clients_of_the_edge(serving: Edge) -> None:
    serving.configure(staged_loopback=False)
    result = serving.apply("--strict")
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "staged", True)
    assert '"server 127.0.0.1:9" is not allowed: its address is not that of another host' in result["message"]


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "hard link", "socket"])
def test_a_stranger_in_the_staging_directory_is_refused(serving: Edge, outside: Outside, kind: str) -> None:
    path = serving.state / "staging" / "a\nb"
    if kind == "link":
        path.symlink_to(outside.keys)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "hard link":
        path.hardlink_to(outside.keys)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    serving.stage(serving.http("one", "two", "three"))
    result = serving.apply("--strict")
    assert (result["outcome"], result["blame"], result["serving"]) == ("failed", "staged", True)
    assert "staging/a?b" in result["message"] and "only regular files with one name belong there" in result["message"]
    assert still_served(serving)
    path.rmdir() if kind == "directory" else path.unlink()
    assert serving.apply("--strict")["outcome"] == "applied" and serving.ask("three") == (200, "three")


def test_what_is_left_out_takes_nothing_with_it(serving: Edge, outside: Outside) -> None:
    """A server on a held port is left out, by a comment in its place: the beginning of a string must not become a part of it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        server = f"server {{ listen 127.0.0.1:{holder.getsockname()[1]}; return x; }}"
        text = f'map $remote_addr $edge_a {{ default "\ninclude {outside.values};\n"; }}\n'
        serving.stage(stream=f"{serving.stream()}{server} {text}")
        result = serving.apply("--strict")
    assert result["outcome"] == "applied" and "left out" in result["message"], result
    live = (serving.state / "live" / "stream" / "50-edge.conf").read_text()
    assert live.endswith(text) and still_served(serving)


HOLDER = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
held = socket.socket()
held.bind(("127.0.0.1", int(sys.argv[2])))
held.listen()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["a\nlisten 1;", "a\n}"])
def test_the_name_of_a_process_becomes_no_configuration(serving: Edge, name: str) -> None:
    """Any user may hold a port that a service wants, under any name, which is written where the server was."""
    port = serving.free_port()
    command = [sys.executable, "-c", HOLDER, name, str(port)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        serving.stage(serving.http("one", "two", "three"), serving.stream() + serving.stream(port, "other"))
        result = serving.apply("--strict")
        assert result["outcome"] == "applied", result
        assert f"127.0.0.1:{port}/tcp is held by {name.replace(chr(10), '?')}" in result["message"]
        assert still_served(serving) and serving.ask("three") == (200, "three")
    finally:
        holder.communicate("")
