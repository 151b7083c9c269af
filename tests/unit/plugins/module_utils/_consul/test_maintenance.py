# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose last instances a node carries, and when it is empty."""

from __future__ import annotations

import typing as t

from ansible_collections.trinode.platform.plugins.module_utils._consul.cluster import ConsulApi
from ansible_collections.trinode.platform.plugins.module_utils._consul.maintenance import only_here, passing_of, set_maintenance, still_here


def instances(*nodes: str) -> list[dict[str, t.Any]]:
    return [{"Node": {"Node": node}} for node in nodes]


PASSING = {
    "consul": instances("a"),
    "alone": instances("a"),
    "alone-twice": instances("a", "a"),
    "shared": instances("a", "b"),
    "elsewhere": instances("b"),
    "sick": instances(),
}


def test_a_service_that_is_sick_already_is_not_lost_by_a_drain() -> None:
    assert only_here(PASSING, "a") == ["alone", "alone-twice"]


def test_a_node_is_empty_when_nothing_passes_there() -> None:
    assert still_here(PASSING, "a") == ["alone", "alone-twice", "consul", "shared"]
    assert still_here(PASSING, "c") == []


class Api(ConsulApi):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("http://192.0.2.1")
        self.asked: list[str] = []

    def request(self, path: str, method: str = "GET", body: t.Any = None) -> t.Any:
        assert body is None
        self.asked.append(f"{method} {path}")
        return {"1": {"Service": "a/b"}, "2": {"Service": "a/b"}} if path == "/v1/agent/services" else None


def test_names_and_reasons_are_quoted() -> None:
    api = Api()
    assert passing_of(api) == {"a/b": []}
    set_maintenance(api, True, "new memory & disk")
    assert api.asked[1:] == ["GET /v1/health/service/a%2Fb?passing", "PUT /v1/agent/maintenance?enable=true&reason=new%20memory%20%26%20disk"]
