# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody on the host holds all connections to Consul's API that 127.0.0.1 may have: the platform's own programs go on."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "consul_server"
sys.path[:0] = [str(ROOT / "roles" / "registrator" / "files")]

from edge_rig import Consul, free_port, poll, tool
from registrator.consulapi import ConsulClient, ConsulDown, ConsulRefused

#: Instead of the 200 or more of a node.
LIMIT = 20
TEMPLATE = '{{ range service "shop" }}{{ .ID }} {{ end }}'


def settings(path: Path) -> dict[str, t.Any]:
    """Return what the role configures for the socket, in the secure form."""
    variables: dict[str, t.Any] = {}
    for name in ("defaults", "vars"):
        variables.update(DataLoader().load_from_file(str(ROLE / name / "main.yml"), trusted_as_template=True))
    variables.update(consul_server_security="require", __consul_server_socket=str(path))
    variables.update(__consul_server_socket_owner={"gid": os.getgid()})
    found = Templar(loader=DataLoader(), variables=variables).template(variables["__consul_server_config_socket"])
    assert isinstance(found, dict)
    return found


class Site:
    """An agent with the socket, which can be started again, and a caller that holds its connections."""

    def __init__(self, directory: Path, held: contextlib.ExitStack) -> None:
        self.directory, self.held, self.port = directory, held, free_port()
        self.socket = directory / "http.sock"
        self.url = f"unix://{self.socket}"
        self.agent: Consul | None = None
        self.start()

    def start(self) -> None:
        """Start the agent, and use up what 127.0.0.1 may have."""
        more = settings(self.socket)
        self.agent = Consul(tool("consul", "CONSUL_BIN"), self.directory, port=self.port, max_connections=LIMIT, **more)
        self.flood()

    def flood(self) -> None:
        """Hold connections until the next one is refused, as each call of the platform would be."""

        def refused() -> bool:
            self.held.enter_context(socket.create_connection(("127.0.0.1", self.port), 10))
            return self.status() == 429

        poll("127.0.0.1 is refused", refused)

    def status(self) -> int:
        """What a call over 127.0.0.1 gets; 429 is also a connection that is closed at once."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/v1/agent/services")
                return connection.getresponse().status
            except (ConnectionError, http.client.HTTPException):
                return 429

    def stop(self) -> None:
        """Stop the agent."""
        if self.agent is not None:
            self.agent.stop()
            self.agent = None


def over_socket(site: Site, method: str, path: str, body: t.Any) -> None:
    """Call the API over the socket, as whoever may enter its directory."""
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(site.socket))
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(body))
        assert connection.getresponse().status == 200


@pytest.fixture(name="site")
def fixture_site() -> t.Iterator[Site]:
    # The path of a socket is short, and so its directory is not pytest's.
    with tempfile.TemporaryDirectory(prefix="lan-", dir="/tmp") as directory, contextlib.ExitStack() as held:
        made = Site(Path(directory), held)
        try:
            yield made
        finally:
            made.stop()


def test_the_engine_goes_on(site: Site) -> None:
    by_address = ConsulClient(f"http://127.0.0.1:{site.port}")
    with pytest.raises((ConsulRefused, ConsulDown)):
        by_address.actual()
    client = ConsulClient(site.url)
    for number in range(2 * LIMIT):
        over_socket(site, "PUT", "/v1/agent/service/register", {"ID": f"shop-{number}", "Name": "shop"})
        assert f"shop-{number}" in client.actual().services
    client.deregister("shop-0", "shop")
    assert client.service("shop-0") is None and client.service("shop-1") is not None
    site.stop()
    with pytest.raises(ConsulDown):
        client.actual()
    site.start()
    assert client.actual().services == {}


def test_a_call_of_the_engine_ends_in_time(site: Site) -> None:
    """Also when nothing is said by the agent, which a long poll waits for."""
    client = ConsulClient(site.url)
    assert stat.S_IMODE(site.socket.stat().st_mode) == 0o660
    index, waited = client.wait_for_loss("", 1)
    assert index and not waited
    assert client.wait_for_loss(index, 1) == (index, True)
    site.agent.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        with pytest.raises(ConsulDown):
            client.actual()
    finally:
        site.agent.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]


def follows(site: Site, rendered: Path, name: str) -> None:
    """Register until it is rendered: an agent without its former state counts from the beginning, and may meet the same index."""
    numbers = itertools.count()

    def done() -> bool:
        service = {"ID": f"{name}-{next(numbers)}", "Name": "shop"}
        over_socket(site, "PUT", "/v1/agent/service/register", service)
        return rendered.exists() and name in rendered.read_text(encoding="utf-8")

    poll(f"{name} is rendered", done)


def test_the_edge_follows_the_catalogue(site: Site) -> None:
    rendered = site.directory / "shop"
    retry = {"enabled": True, "attempts": 0, "backoff": "250ms", "max_backoff": "1s"}
    configuration = {
        "consul": {"address": site.url, "retry": retry},
        "block_query_wait": "2s",
        "template": [{"contents": TEMPLATE, "destination": str(rendered)}],
        "log_level": "warn",
    }
    (site.directory / "template.json").write_text(json.dumps(configuration), encoding="utf-8")
    command = [tool("consul-template", "CONSUL_TEMPLATE_BIN"), "-config", str(site.directory / "template.json")]
    with (site.directory / "template.log").open("w", encoding="utf-8") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            follows(site, rendered, "before")
            site.stop()
            site.start()
            follows(site, rendered, "after")
        finally:
            print((site.directory / "template.log").read_text(encoding="utf-8"))
            process.send_signal(signal.SIGINT)
            process.wait(20)
