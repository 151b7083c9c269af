# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's port table and README say what the code does."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.trinode.platform.plugins.module_utils._host.ports import SELECTORS, Node, parse_ports, wanted_paths

ROOT = Path(__file__).resolve().parents[4]
ROLE = ROOT / "roles" / "preflight"


SOURCES = (
    "control_node.py",
    "inventory_rules.py",
    "connection.py",
    "docker.py",
    "report.py",
    "security_rules.py",
    "site_rules.py",
    "site_check.py",
)


def defaults() -> dict[str, t.Any]:
    """The role's defaults."""
    return t.cast("dict[str, t.Any]", yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8")))


def test_every_check_is_in_the_readme() -> None:
    sources = [ROOT / "plugins" / "plugin_utils" / "_preflight" / name for name in SOURCES]
    used = {check for path in sources for check in re.findall(r'Problem\(\s*[^,"]*(?:"")?,\s*"([a-z_]+)"', path.read_text(encoding="utf-8"))}
    text = (ROLE / "README.md").read_text(encoding="utf-8").partition("<!-- BEGIN ARGUMENT SPECS -->")[0]
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    assert len(used) > 15
    assert used - documented == {"memory", "disk", "dns"}
    assert documented == used - {"memory", "disk", "dns"}
    for check in ("memory", "disk", "dns"):
        assert f"`{check}`" in text


def test_every_port_is_in_the_readme() -> None:
    text = (ROLE / "README.md").read_text(encoding="utf-8")
    for port in defaults()["preflight_ports"]:
        assert set(port["nodes"]) <= set(SELECTORS)
        assert set(port["peers"]) <= set(SELECTORS)
        if port["port"]:
            assert re.search(rf"^\|[^|]*\b{port['port']}/{port['protocol']}\b", text, re.MULTILINE), port


def lines(*forms: str) -> list[dict[str, t.Any]]:
    """Return the lines of the port table that count for these forms."""
    return [line for line in defaults()["preflight_ports"] if line.get("form") in (None, *forms)]


@pytest.mark.parametrize(
    ("forms", "wan"),
    [(("open", "wan"), {(8302, "tcp"), (8302, "udp")}), (("secure",), set()), (("secure", "wan"), {(8302, "tcp"), (8302, "udp")})],
)
def test_the_paths_of_a_site(forms: tuple[str, ...], wan: set[tuple[int, str]]) -> None:
    ports = parse_ports(lines(*forms))
    server = Node("s", "s", "192.0.2.1", "server", docker=True)
    other = Node("o", "o", "192.0.2.2", "server", docker=True, edge=True)
    client = Node("c", "c", "192.0.2.3", "client", edge=True)
    assert set(wanted_paths(server, other, ports)) == {(8300, "tcp"), (8301, "tcp"), (8301, "udp"), (0, "tcp"), *wan}
    assert set(wanted_paths(client, server, ports)) == {(8300, "tcp"), (8301, "tcp"), (8301, "udp"), (0, "tcp")}
    assert set(wanted_paths(server, client, ports)) == {(8301, "tcp"), (8301, "udp")}


@pytest.mark.parametrize(("security", "form"), [("none", "open"), ("require", "secure")])
@pytest.mark.parametrize("mode", ["server", "client"])
def test_the_port_table_is_what_the_agent_opens(security: str, form: str, mode: str) -> None:
    """Compare the API's ports with the configuration that the role consul_server makes."""
    config = consul_configuration(security, mode)
    opened = {(8500, address) for address in config.get("addresses", {}).get("http", config["client_addr"]).split()}
    if config["ports"].get("https"):
        opened |= {(config["ports"]["https"], address) for address in config["addresses"]["https"].split()}
    # An open server's gRPC with TLS is on by itself.
    if mode == "server" and "grpc_tls" not in config["ports"]:
        opened |= {(8503, address) for address in config["client_addr"].split()}
    node = Node("s", "s", "192.0.2.1", mode)
    listed = {
        (port.port, address) for port in parse_ports(lines(form)) if port.used_by(node) and port.port in range(8500, 8504) for address in port.bound(node)
    }
    assert listed == opened


def consul_configuration(security: str, mode: str) -> dict[str, t.Any]:
    """Return the configuration of an agent, as Ansible makes it from the role."""
    role = ROOT / "roles" / "consul_server"
    templar = Templar(loader=DataLoader())
    variables: dict[str, t.Any] = {}
    for name in ("defaults", "vars"):
        variables.update(DataLoader().load_from_file(str(role / name / "main.yml"), trusted_as_template=True))
    variables.update(consul_server_security=security, consul_server_mode=mode, consul_server_address="192.0.2.1", consul_server_node_name="s")
    variables.update(inventory_hostname_short="s", consul_server_servers=[{"name": "s", "address": "192.0.2.1"}])
    templar.available_variables = variables
    return t.cast("dict[str, t.Any]", templar.template(variables["__consul_server_config"]))
