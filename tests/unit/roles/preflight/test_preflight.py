# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's port table and README say what the code does."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import yaml

from ansible_collections.trinode.platform.plugins.module_utils._node_ports import SELECTORS, Node, parse_ports, wanted_paths

ROOT = Path(__file__).resolve().parents[4]
ROLE = ROOT / "roles" / "preflight"


def defaults() -> dict[str, t.Any]:
    """The role's defaults."""
    return t.cast("dict[str, t.Any]", yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8")))


def test_every_check_is_in_the_readme() -> None:
    sources = [ROOT / "plugins" / "plugin_utils" / name for name in ("_inventory_rules.py", "_preflight_report.py")]
    used = {check for path in sources for check in re.findall(r'Problem\(\s*[^,"]*(?:"")?,\s*"([a-z_]+)"', path.read_text(encoding="utf-8"))}
    text = (ROLE / "README.md").read_text(encoding="utf-8").partition("<!-- BEGIN ARGUMENT SPECS -->")[0]
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    assert len(used) > 15
    assert used - documented == {"memory", "disk", "dns"}
    assert documented - used == {"variable"}
    for check in ("memory", "disk", "dns"):
        assert f"`{check}`" in text


def test_every_port_is_in_the_readme() -> None:
    text = (ROLE / "README.md").read_text(encoding="utf-8")
    for port in defaults()["preflight_ports"]:
        assert set(port["nodes"]) <= set(SELECTORS)
        assert set(port["peers"]) <= set(SELECTORS)
        if port["port"]:
            assert re.search(rf"^\|[^|]*\b{port['port']}/{port['protocol']}\b", text, re.MULTILINE), port


def test_the_paths_of_a_site() -> None:
    ports = parse_ports(defaults()["preflight_ports"])
    server = Node("s", "s", "192.0.2.1", "server", docker=True)
    other = Node("o", "o", "192.0.2.2", "server", docker=True, edge=True)
    client = Node("c", "c", "192.0.2.3", "client", edge=True)
    assert set(wanted_paths(server, other, ports)) == {(8300, "tcp"), (8301, "tcp"), (8301, "udp"), (8302, "tcp"), (8302, "udp"), (0, "tcp")}
    assert set(wanted_paths(client, server, ports)) == {(8300, "tcp"), (8301, "tcp"), (8301, "udp"), (0, "tcp")}
    assert set(wanted_paths(server, client, ports)) == {(8301, "tcp"), (8301, "udp")}
