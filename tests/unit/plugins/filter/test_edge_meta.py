# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The meta keys that a registrator gets from the description of the edge."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.trinode.platform.plugins.filter import edge_meta as plugin
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.meta import META
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.tcp import tcp_template

GUIDE = Path(__file__).resolve().parents[4] / "docs" / "filter_guide.md"
FILTER = plugin.FilterModule().filters()["edge_meta"]


def test_tags_are_those_of_the_description() -> None:
    found = FILTER({"domain": "apps.example", "tcp_tag": "stream"})
    assert (found["edge_port"], found["edge_weight"]) == (["stream"], ["http", "stream", "tls"])


def test_every_key_that_the_sources_read_is_known() -> None:
    """One that is missing here would be reported as unknown, and still have an effect."""
    edge = {
        "domain": "apps.example",
        "internal": {"listen_addresses": ["172.17.0.1"]},
        "tls": {"certificates": [{"name": "a"}]},
    }
    for source in (http_template(edge), tcp_template(edge)):
        assert set(re.findall(r'ServiceMeta "(edge_\w+)"', source)) <= set(META)
    read = http_template(edge) + tcp_template(edge)
    assert {key for key in META if f'ServiceMeta "{key}"' in read} == set(META)
    assert set(re.findall(r"\| meta `(edge_\w+)` \|", GUIDE.read_text())) == set(META)


def test_an_error_names_filter_and_keys() -> None:
    with pytest.raises(AnsibleFilterError, match=r"trinode\.platform\.edge_meta: the edge description is wrong: domain is required"):
        FILTER({})


def test_documentation_is_yaml() -> None:
    for text in (plugin.DOCUMENTATION, plugin.EXAMPLES, plugin.RETURN):
        assert yaml.safe_load(text)
