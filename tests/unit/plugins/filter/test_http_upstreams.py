# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter http_upstreams as Ansible sees it."""

from __future__ import annotations

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.trinode.platform.plugins.filter import http_upstreams as plugin
from ansible_collections.trinode.platform.plugins.plugin_utils._edge.http import http_template

FILTER = plugin.FilterModule().filters()["http_upstreams"]


def test_gives_the_source() -> None:
    assert FILTER({"domain": "apps.example"}) == http_template({"domain": "apps.example"})


def test_the_source_is_not_templated_again() -> None:
    source = FILTER({"domain": "apps.example"})
    assert "{{" in source
    assert Templar(loader=DataLoader(), variables={"source": source}).template(source) == source


def test_an_error_names_filter_and_keys() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        FILTER({"domain": "apps.example", "http_port": 0, "ipv7": True})
    message = str(caught.value)
    assert message.startswith("trinode.platform.http_upstreams: the edge description is wrong: ")
    assert "http_port: 0 is not allowed, it must be an integer from 1 to 65535" in message
    assert "'ipv7' is not a known key, the nearest known key is ipv6" in message


def test_documentation_is_yaml() -> None:
    for text in (plugin.DOCUMENTATION, plugin.EXAMPLES, plugin.RETURN):
        assert yaml.safe_load(text)
