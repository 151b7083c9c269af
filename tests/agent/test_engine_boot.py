# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine at a start of the host: systemd starts Docker when it hears that the engine is ready."""

from __future__ import annotations

import signal
import socket
import socketserver
import sys
import threading
import time
import typing as t
import urllib.request
from pathlib import Path

import pytest
from edge_rig import Consul, free_port, poll
from test_engine import FILES, Site
from test_engine import fixture_agent as fixture_agent

sys.path.insert(0, str(FILES))

from registrator.backoff import BACKOFF
from registrator.model import MARK


class Booting(Site):
    """A host whose Docker has not been started yet, with a catalogue of before."""

    def __init__(self, agent: Consul, directory: Path, **settings: t.Any) -> None:
        super().__init__(agent, directory, **settings)
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(directory / "notify"))
        self.systemd.setblocking(False)
        self.said = ""

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "NOTIFY_SOCKET": str(self.directory / "notify")}

    def is_ready(self) -> bool:
        """Whether systemd has heard that the engine is ready."""
        try:
            while True:
                self.said += self.systemd.recv(4096).decode() + "\n"
        except BlockingIOError:
            return "READY=1" in self.said

    def close(self) -> None:
        super().close()
        self.systemd.close()


def before(agent: Consul, number: int) -> None:
    """Register what a container of before the start of the host had."""
    service: dict[str, t.Any] = {"ID": f"node1:web{number}:8081", "Name": f"web{number}", "Address": "192.0.2.10", "Port": 32768 + number}
    service["Meta"] = {MARK: "node1"}
    agent.ask("PUT", "/v1/agent/service/register", service)


class Slow(socketserver.ThreadingTCPServer):
    """The way to an agent, each request of which takes seconds."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, agent: Consul, port: int = 0) -> None:
        self.agent, self.seconds = agent, 3.0
        super().__init__(("127.0.0.1", port), Request)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        super().__exit__(*error)


class Request(socketserver.BaseRequestHandler):
    """One connection of the engine's."""

    server: Slow

    def handle(self) -> None:
        host, port = self.server.agent.address.split(":")
        with socket.create_connection((host, int(port))) as there:
            back = threading.Thread(target=self.hand_over, args=(there, self.request, 0.0), daemon=True)
            back.start()
            self.hand_over(self.request, there, self.server.seconds)
            back.join()

    def hand_over(self, source: socket.socket, target: socket.socket, seconds: float) -> None:
        """Pass on what comes, each piece so much later."""
        try:
            while data := source.recv(65536):
                time.sleep(min(seconds, self.server.seconds))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture(name="host")
def fixture_host(agent: Consul, tmp_path: Path) -> t.Iterator[Booting]:
    host = Booting(agent, tmp_path, docker_socket=str(tmp_path / "not-there.sock"))
    for number in range(10):
        before(agent, number)
    try:
        yield host
    finally:
        host.close()


def test_docker_starts_when_what_ran_before_has_left_the_catalogue(host: Booting) -> None:
    host.launch()
    poll("the engine is ready", host.is_ready)
    assert host.services() == {} and host.agent.ask("GET", "/v1/catalog/services") == {"consul": []}
    assert "not-cleared" not in host.log.read_text()


def test_docker_waits_for_an_agent_that_does_not_answer(host: Booting) -> None:
    host.agent.process.send_signal(signal.SIGSTOP)
    try:
        host.launch()
        poll("the engine has asked", lambda: "consul" in host.status().get("down", {}))
        assert not host.is_ready()
    finally:
        host.agent.process.send_signal(signal.SIGCONT)
    poll("the engine is ready", host.is_ready, 30)
    assert host.services() == {}


def test_docker_does_not_wait_for_a_slow_agent_to_the_end_of_a_pass(agent: Consul, tmp_path: Path) -> None:
    """systemd would end the engine, which has not called itself ready, and begin anew with it, again and again."""
    with Slow(agent) as slow:
        host = Booting(agent, tmp_path, docker_socket=str(tmp_path / "not-there.sock"), consul_url=f"http://127.0.0.1:{slow.port}")
        try:
            for number in range(10):
                before(agent, number)
            host.launch()
            poll("the engine is ready", host.is_ready, 40)
            assert host.services() != {}, "the first pass has not come to its end"
            assert "event=not-cleared seconds=20" in host.log.read_text()
        finally:
            slow.seconds = 0.0
            host.close()


def test_docker_starts_without_the_token_in_the_end(agent: Consul, tmp_path: Path) -> None:
    host = Booting(agent, tmp_path, docker_socket=str(tmp_path / "not-there.sock"), consul_token_file=str(tmp_path / "token"))
    try:
        process = host.launch()
        poll("the engine is ready", host.is_ready, 40)
        said = host.log.read_text()
        assert "event=not-cleared seconds=20" in said and "the token file" in said and process.poll() is None
    finally:
        host.close()


def test_what_another_registered_keeps_nobody_waiting(agent: Consul, tmp_path: Path) -> None:
    """It stays, and is none of what ran before here."""
    host = Booting(agent, tmp_path, docker_socket=str(tmp_path / "not-there.sock"))
    agent.ask("PUT", "/v1/agent/service/register", {"ID": "theirs", "Name": "theirs", "Address": "192.0.2.10", "Port": 80})
    try:
        host.launch()
        poll("the engine is ready", host.is_ready)
        assert set(host.services()) == {"theirs"} and "not-cleared" not in host.log.read_text()
    finally:
        host.close()


def test_docker_starts_without_consul_in_the_end(agent: Consul, tmp_path: Path) -> None:
    """Containers are worth more than their names."""
    host = Booting(agent, tmp_path, consul_url="http://127.0.0.1:9")
    try:
        host.launch()
        poll("the engine is ready", host.is_ready, 40)
        assert "event=not-cleared seconds=20" in host.log.read_text()
    finally:
        host.close()


def test_an_agent_that_was_away_for_long_is_told_at_once(agent: Consul, tmp_path: Path) -> None:
    """However often it was asked in vain: until then, the catalogue has what the host ran before."""
    port, metrics = free_port(), free_port()
    host = Booting(agent, tmp_path, docker_socket=str(tmp_path / "no.sock"), consul_url=f"http://127.0.0.1:{port}", metrics_port=metrics)

    def failures() -> float:
        # What is said has to be read, or the engine waits for that.
        host.is_ready()
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith("registrator_consul_errors_total")).split()[-1])

    agent.ask("PUT", "/v1/agent/service/register", {"ID": "node1:old:8081", "Name": "old", "Port": 1, "Meta": {MARK: "node1"}})
    try:
        host.launch()
        poll("it was asked in vain more often than the engine asks in short pauses", lambda: failures() > 3 * len(BACKOFF), 60)
        with Slow(agent, port) as way:
            way.seconds = 0.0
            poll("the agent is told", lambda: not host.services())
    finally:
        host.close()
