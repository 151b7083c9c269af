# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meta data for readers of the catalogue: every key of the edge has an effect or a line."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from registrator.config import ConfigError, parse
from registrator.convention import registrations_of
from registrator.facts import facts_of
from registrator.model import Outcome, Settings

from ansible_collections.trinode.platform.plugins.plugin_utils._edge.meta import META, edge_meta

KNOWN = edge_meta({"domain": "apps.example", "internal": {"listen_addresses": ["172.17.0.1"]}})
KNOWN_META = tuple((key, tuple(tags)) for key, tags in KNOWN.items())
SETTINGS = Settings(hostname="node1", address="192.0.2.10", known_meta=KNOWN_META)


def looked_at(document: Any, container: str, labels: dict[str, str]) -> Outcome:
    return registrations_of(replace(facts_of(document(container)), labels=labels, env={}), SETTINGS)


def lines(found: Outcome) -> list[tuple[str, str]]:
    return [(item.kind, item.key) for item in (*found.refusals, *found.warnings)]


def test_the_keys_of_an_edge_have_tags() -> None:
    assert set(KNOWN) == set(META)
    assert KNOWN["edge_port"] == ["tcp", "tcp-internal"]
    assert KNOWN["edge_https"] == ["http"]
    assert KNOWN["edge_weight"] == ["http", "http-internal", "tcp", "tcp-internal", "tls"]
    other = edge_meta({"domain": "apps.example", "http_tag": "web"})
    assert (other["edge_canary"], other["edge_weight"]) == (["web"], ["web", "tcp", "tls"])


TAGS = ("", "http", "tcp", "tls", "http-internal", "tcp-internal", "http,tcp", "HTTP", "blue")


@pytest.mark.parametrize(("key", "tags"), list(itertools.product(sorted(META), TAGS)))
def test_a_known_key_has_an_effect_or_a_line(document: Any, key: str, tags: str) -> None:
    found = looked_at(document, "published", {f"SERVICE_{key.upper()}": "1", "SERVICE_TAGS": tags})
    (registration,) = found.registrations
    assert registration.meta[key] == "1"
    expected = [] if set(tags.split(",")) & set(KNOWN[key]) else ["meta-tags"]
    assert [kind for kind, about in lines(found) if about == key] == expected


def test_one_port_that_can_use_it_is_enough(document: Any) -> None:
    labels = {
        "SERVICE_80_TAGS": "http",
        "SERVICE_443_TAGS": "tls",
        "SERVICE_EDGE_CANARY": "true",
        "SERVICE_443_EDGE_HTTPS": "both",
    }
    found = looked_at(document, "several_ports", labels)
    assert len(found.registrations) == 3
    assert lines(found) == [("meta-tags", "edge_https")]


@pytest.mark.parametrize("key", sorted(META))
def test_every_slip_of_the_pen_is_noticed(document: Any, key: str) -> None:
    """A letter that is left out, written twice, or changed with the next one."""
    slips = set()
    for at, letter in enumerate(key):
        for wrong, length in (("", 1), (letter * 2, 1), (key[at : at + 2][::-1], 2)):
            slips.add(key[:at] + wrong + key[at + length :])
    slips |= {key.replace("_", "-"), key.replace("_", "")}
    # A key that means something else is no slip.
    for slip in slips - set(META):
        found = looked_at(document, "published", {f"SERVICE_{slip.upper()}": "1", "SERVICE_TAGS": "http,tcp"})
        assert [kind for kind, about in lines(found) if about == slip and kind in ("typo", "meta-unknown")], slip


@pytest.mark.parametrize("name", ["region", "edges", "knowledge_base", "weight", "port", "version", "canary"])
def test_other_meta_data_is_the_users_own(document: Any, name: str) -> None:
    assert lines(looked_at(document, "published", {f"SERVICE_{name.upper()}": "1"})) == []


def test_the_weight_of_consul_is_no_mistake(document: Any) -> None:
    """It also becomes edge_weight, which nobody wrote."""
    found = looked_at(document, "published", {"SERVICE_WEIGHT": "10"})
    assert (found.registrations[0].meta["edge_weight"], lines(found)) == ("10", [])


@pytest.mark.parametrize("value", [[], "edge_port", {"edge_port": "tcp"}, {"edge_port": [1]}, None])
def test_a_wrong_setting_is_refused(value: Any) -> None:
    text = json.dumps({"address": "192.0.2.10", "hostname": "n", "known_meta": value})
    with pytest.raises(ConfigError, match="known_meta"):
        parse(text, "config.json")


def test_the_setting_is_read() -> None:
    text = json.dumps({"address": "192.0.2.10", "hostname": "n", "known_meta": KNOWN})
    assert parse(text, "config.json").settings().known_meta == SETTINGS.known_meta
