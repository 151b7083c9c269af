# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge makes of registrations past the engine, by a registrator's token: a real agent, its ACLs, nginx."""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

from edge_rig import DOMAIN, Backends, Nginx, Rendered, ask, free_port, say, tool
from test_token_calls import OWN, Rig

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

LOOKALIKES = ("Billing", "bi11ing", "b1lling", "billlng", "bil-ling", "c0nsul", "xn--blling-xyf")


class Edge:
    """An edge of the secure site: its consul-template has the token that edges have."""

    def __init__(self, rig: Rig, directory: Path, nginx: Nginx) -> None:
        self.rig, self.directory, self.nginx = rig, directory, nginx
        self.http_port, self.own_port, self.stolen_port = free_port(), free_port(), free_port()
        self.description = {
            "domain": DOMAIN,
            "protected_services": ["consul", "billing"],
            "allow_loopback": True,
            "listen_addresses": ["127.0.0.1"],
            "http_port": self.http_port,
            "tls_port": free_port(),
            "http_access_log": "off",
            "tcp_access_log": "off",
        }

    def render(self) -> dict[str, Rendered]:
        """Render both sides of the catalogue as it is now."""
        command = [tool("consul-template", "CONSUL_TEMPLATE_BIN"), "-once", "-consul-retry=false"]
        command.append(f"-consul-addr=http://{self.rig.consul.address}")
        for side, source in (("http", http_template), ("tcp", tcp_template)):
            (self.directory / f"{side}.ctmpl").write_text(source(self.description))
            command.append(f"-template={self.directory}/{side}.ctmpl:{self.directory}/{side}.rendered")
        environment = {"CONSUL_HTTP_TOKEN": self.rig.secrets["consul-template"]}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return {side: Rendered((self.directory / f"{side}.rendered").read_text()) for side in ("http", "tcp")}

    def serve(self, *ports: int) -> dict[str, Rendered]:
        """Serve the catalogue as it is now."""
        sides = self.render()
        self.nginx.start(sides["http"].text, sides["tcp"].text, [self.http_port, *ports])
        return sides


@pytest.fixture(name="rig")
def fixture_rig(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Rig]:
    one = Rig(tmp_path_factory.mktemp("stolen"))
    try:
        yield one
    finally:
        one.consul.stop()


@pytest.fixture(name="edge")
def fixture_edge(rig: Rig, tmp_path: Path) -> t.Iterator[Edge]:
    nginx = Nginx(tool("nginx", "NGINX_BIN"), tmp_path)
    try:
        yield Edge(rig, tmp_path, nginx)
    finally:
        nginx.stop()


@pytest.fixture(name="backends")
def fixture_backends(tmp_path: Path) -> t.Iterator[Backends]:
    running = Backends(tmp_path)
    yield running
    running.stop()


def registers(rig: Rig, token: str, name: str, tag: str, port: int, public: int) -> bool:
    """Register one instance at the agent with a token; return whether Consul did it."""
    # The catalogue takes two ids of a node that differ only in case for one.
    body = {"ID": f"{name.encode().hex()}-{tag}", "Name": name, "Address": "127.0.0.1", "Port": port, "Tags": [tag]}
    if tag == "tcp":
        body["Meta"] = {"edge_port": str(public)}
    return rig.ask(token, "PUT", "/v1/agent/service/register", body).done


@pytest.mark.parametrize("owner_lives", [True, False], ids=["next to the owner", "without the owner"])
def test_a_name_that_looks_protected_is_served_nowhere(
    rig: Rig,
    edge: Edge,
    backends: Backends,
    owner_lives: bool,
) -> None:
    thief = {"http": backends.http("thief").server_address[1], "tcp": backends.echo("thief").server_address[1]}
    owner = {"http": backends.http("owner").server_address[1], "tcp": backends.echo("owner").server_address[1]}
    stolen = f"registrator-{OWN}"
    assert not registers(rig, stolen, "billing", "http", thief["http"], 0), "ACLs keep the name itself"
    for name in LOOKALIKES:
        for tag in ("http", "tcp"):
            # The owner asks for the same port, and comes later in the order of names.
            public = edge.stolen_port if name == "b1lling" else edge.own_port
            assert registers(rig, stolen, name, tag, thief[tag], public), "ACLs do not keep its look"
    assert registers(rig, stolen, "shop", "http", owner["http"], 0)
    for tag in owner if owner_lives else ():
        assert registers(rig, "service-billing", "billing", tag, owner[tag], edge.own_port)

    sides = edge.serve(*([edge.own_port] if owner_lives else []))

    owned = {"billing"} if owner_lives else set()
    assert sides["http"].served() == {"shop", *owned} and sides["tcp"].served() == owned
    assert ask(edge.http_port, f"shop.{DOMAIN}") == (200, "owner")
    nothing = ask(edge.http_port, f"nobody.{DOMAIN}")
    assert ask(edge.http_port, f"billing.{DOMAIN}") == ((200, "owner") if owner_lives else nothing)
    for name in LOOKALIKES[1:]:
        assert ask(edge.http_port, f"{name}.{DOMAIN}") == nothing, name
    assert say(edge.own_port, "x").partition(" ")[0] == ("owner" if owner_lives else "")
    assert say(edge.stolen_port, "x") == ""
    for rendered in sides.values():
        refused = dict(rendered.skipped())
        assert set(refused) == set(LOOKALIKES)
        for name in ("bi11ing", "b1lling", "billlng", "bil-ling"):
            assert refused[name] == "the name looks like that of protected service billing"
        assert refused["c0nsul"] == "the name looks like that of protected service consul"


def test_one_that_asks_for_nothing_is_reported(rig: Rig, edge: Edge) -> None:
    """It has its name in DNS, which no edge can prevent."""
    assert registers(rig, f"registrator-{OWN}", "bi11ing", "", 9, 0)
    (line,) = edge.render()["http"].report
    assert (line["kind"], line["service"]) == ("warning", "bi11ing")
    assert line["reason"] == "the name looks like that of service billing"
