# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter edge_datacenters as Ansible sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.trinode.platform.plugins.filter import edge_datacenters as plugin
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.datacenters import datacenter_templates
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.schema import remote_datacenters

ROOT = Path(__file__).resolve().parents[4]
FILTER = plugin.FilterModule().filters()["edge_datacenters"]
EDGE = {"domain": "apps.example", "remote_services": [{"name": "shop", "datacenter": "dc2"}, {"name": "shop", "datacenter": "dc3"}]}


def test_gives_a_source_for_each_data_centre() -> None:
    assert FILTER(EDGE) == datacenter_templates(EDGE)
    assert [entry["name"] for entry in FILTER(EDGE)] == ["datacenter-dc2", "datacenter-dc3"]
    assert FILTER({"domain": "apps.example"}) == []


def test_the_sources_are_not_templated_again() -> None:
    found = FILTER(EDGE)
    assert "{{" in found[0]["contents"]
    assert Templar(loader=DataLoader(), variables={"found": found}).template(found) == found


def test_an_error_names_filter_and_keys() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        FILTER({**EDGE, "remote_services": [{"name": "shop"}]})
    assert str(caught.value) == "trinode.platform.edge_datacenters: the edge description is wrong: remote_services[0].datacenter is required"


def test_the_role_takes_what_the_filter_gives() -> None:
    spec = yaml.safe_load((ROOT / "roles" / "consul_template" / "meta" / "argument_specs.yml").read_text())
    options = spec["argument_specs"]["main"]["options"]["consul_template_apart"]["options"]
    assert set(FILTER(EDGE)[0]) <= set(options)


def test_the_data_centres_of_a_description_that_nobody_has_checked() -> None:
    assert remote_datacenters(EDGE) == ["dc2", "dc3"]
    assert remote_datacenters({"remote_services": [{"datacenter": 5}, "x", {}, {"datacenter": "dc2"}]}) == ["dc2"]
    for wrong in (None, [], {}, {"remote_services": None}, {"remote_services": {"name": "x"}}):
        assert remote_datacenters(wrong) == []


def test_documentation_is_yaml() -> None:
    for text in (plugin.DOCUMENTATION, plugin.EXAMPLES, plugin.RETURN):
        assert yaml.safe_load(text)
