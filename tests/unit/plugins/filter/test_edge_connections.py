# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits that both sides of Consul's API get from the description of the edge."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.trinode.platform.plugins.filter import edge_connections as plugin
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.options import SCHEMA
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

ROOT = Path(__file__).resolve().parents[4]
FILTER = plugin.FilterModule().filters()["edge_connections"]
INTERNAL = {"listen_addresses": ["172.17.0.1"]}


@pytest.mark.parametrize(
    ("options", "connections"),
    [
        # The list of services; http, tcp and tls of each; and fifty of the mesh from each source.
        ({}, 1 + 3 * 3000 + 100),
        ({"max_services": 10}, 131),
        ({"max_services": 10, "internal": INTERNAL}, 151),
        # The same tag inside and outside is one question.
        ({"max_services": 10, "internal": {**INTERNAL, "http_tag": "http", "tcp_tag": "tcp"}}, 131),
        ({"max_services": 10, "internal": INTERNAL, "public": False}, 121),
        # Two more for each service of another data centre.
        ({"max_services": 10, "remote_services": [{"name": "shop", "datacenter": "dc2"}, {"name": "web", "datacenter": "dc2"}]}, 135),
    ],
)
def test_connections(options: dict[str, t.Any], connections: int) -> None:
    assert FILTER({"domain": "apps.example", **options}) == connections


def test_every_question_of_the_sources_is_counted() -> None:
    """Whatever else asks Consul would not be counted: it must not be there."""
    edge = {"domain": "apps.example", "internal": INTERNAL, "tls": {"certificates": [{"name": "a"}]}}
    for source in (http_template(edge), tcp_template(edge)):
        asked = re.findall(r"\b(?:range|with|:=)[^}]*\b(services?|nodes?|key|keyExists|ls|tree|connect|caRoots|caLeaf|datacenters)\b([^}]*)}}", source)
        assert asked
        assert all(
            (name == "services" and not rest.strip())
            or (name == "connect" and rest.strip() == '(printf "%s|any" .name)' and source.count("lt (len $mesh) 50") >= source.count('template "natives"'))
            or (name == "service" and re.fullmatch(r' \(printf "[^"]*" \$name\) ?', rest))
            for name, rest in asked
        ), asked


def test_the_largest_number_fits_into_the_open_files_of_both_units() -> None:
    most = next(option.maximum for option in SCHEMA if option.name == "max_services")
    connections = FILTER({"domain": "apps.example", "max_services": most, "internal": INTERNAL})
    for role, unit in (("consul_server", "consul.service.j2"), ("consul_template", "consul-template.service.j2")):
        text = (ROOT / "roles" / role / "templates" / unit).read_text()
        limit = re.search(r"^LimitNOFILE=(\d+)$", text, re.MULTILINE)
        assert limit and int(limit.group(1)) > connections + 1000, unit


def test_the_roles_own_default_is_for_the_default_edge() -> None:
    defaults = yaml.safe_load((ROOT / "roles" / "consul_server" / "defaults" / "main.yml").read_text())
    assert defaults["consul_server_http_max_conns_per_client"] == 200 + FILTER({"domain": "apps.example"})


def test_an_error_names_filter_and_keys() -> None:
    with pytest.raises(AnsibleFilterError, match=r"trinode\.platform\.edge_connections: the edge description is wrong: domain is required"):
        FILTER({})


def test_documentation_is_yaml() -> None:
    for text in (plugin.DOCUMENTATION, plugin.EXAMPLES, plugin.RETURN):
        assert yaml.safe_load(text)
