# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page: what it says, and that no value can be more than text in it."""

from __future__ import annotations

import html.parser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nginx_edge import state as states
from nginx_edge.page import clock, instances, page, verdict

SERVED = {
    "kind": "served",
    "side": "http",
    "service": "shop",
    "host": "shop.apps.example",
    "port": 80,
    "instances": 2,
    "servers": {"192.0.2.1:8080": 100, "192.0.2.2:8080": 50},
    "canaries": 1,
    "canary_share": 5,
    "canary_servers": {"192.0.2.3:8080": 100},
    "versions": {"v1": 2, "v2": 1},
}
ILL = {"kind": "skipped", "side": "http", "service": "shop", "instance": "shop-4", "address": "192.0.2.4", "port": 8080, "reason": "not healthy"}
REFUSED = {"kind": "skipped", "side": "tcp", "service": "db", "reason": "port 22 is reserved"}


def document(**more: Any) -> dict[str, Any]:
    state = states.empty()
    state.update(
        live="000007",
        history=[{"generation": "000006", "activated": 5.0, "services": 3, "note": ""}, {"generation": "000007", "activated": 1700000000.0, "services": 1}],
        last={"time": 1700000000.0, "outcome": "applied", "message": "generation 000007 is live", "serving": True, "duration_ms": 120},
    )
    state.update(more.pop("state", {}))
    return {**states.status(state, {"served": [SERVED], "skipped": [ILL, REFUSED]}, True), **more}


class Reader(html.parser.HTMLParser):
    """Reads a page as a browser would."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "td" in self.open and self.cells:
            self.cells[-1] += data


def test_what_the_page_says() -> None:
    cells = Reader(page("edge-1", document(), [{"path": "/failed/x", "reason": "no servers"}])).cells
    for told in ("shop", "shop.apps.example:80", "v1 (2), v2 (1), canaries get 5 %", "192.0.2.1:8080", "66.7 %", "canary, healthy", "not healthy"):
        assert told in cells, told
    assert cells[:5] == ["shop", "http", "shop-4", "192.0.2.4:8080", "not healthy"]
    assert {"port 22 is reserved", "/failed/x", "no servers", "000006", "2023-11-14 22:13:20 UTC"} <= set(cells)


def test_the_instances_of_a_service() -> None:
    assert instances(SERVED, [ILL, REFUSED]) == [
        ("192.0.2.1:8080", "100", "66.7 %", "good", "healthy"),
        ("192.0.2.2:8080", "50", "33.3 %", "good", "healthy"),
        ("192.0.2.3:8080", "100", "100.0 %", "good", "canary, healthy"),
        ("192.0.2.4:8080", "", "", "warn", "not healthy"),
    ]
    many = {"service": "x", "instances": 23, "servers": {f"192.0.2.{number}:1": 100 for number in range(20)}, "warns": {"192.0.2.0:1": True}}
    assert instances(many, [])[-1][0] == "and 3 more" and instances(many, [])[0] == ("192.0.2.0:1", "100", "", "warn", "warns")


@pytest.mark.parametrize(
    ("more", "colour", "headline"),
    [
        ({}, "good", "generation 000007 is live and up to date"),
        ({"serving": False}, "bad", "nginx did not serve the live generation"),
        ({"hold": {"from": "000008"}}, "warn", "generation 000007 is held"),
        ({"refused": {"gone_count": 9}}, "warn", "a change is refused, generation 000007 stays live"),
        ({"up_to_date": False, "starting": True}, "warn", "generation 000007 is of before the start of the host"),
        ({"up_to_date": False}, "warn", "the last change failed, generation 000007 stays live"),
    ],
)
def test_the_verdict(more: dict[str, Any], colour: str, headline: str) -> None:
    assert verdict(document(**more))[:2] == (colour, headline)
    assert f'<header class="{colour}"><h1>Edge e: <strong>{headline}' in page("e", document(**more), [])


def test_an_edge_that_never_applied_anything() -> None:
    text = page("e", states.status(states.empty(), {}, False), [])
    assert "nothing was applied yet" in text and "Nothing is served." in text and "Nothing is skipped." in text


@pytest.mark.parametrize(("value", "shown"), [(0, "1970-01-01 00:00:00 UTC"), (None, "never"), ("x", "never"), (1e300, "never"), (float("nan"), "never")])
def test_clock(value: Any, shown: str) -> None:
    assert clock(value) == shown


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["<script>", "</style>", '"><img onerror=x>', "'", "&lt;", "-->"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(sorted({*SERVED, *ILL})), inner, max_size=4),
    max_leaves=12,
)
ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "header",
    "h1",
    "h2",
    "strong",
    "p",
    "div",
    "b",
    "span",
    *("table", "thead", "tbody", "tr", "th", "td"),
}


@given(
    served=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys([*SERVED, "backups", "backup_servers"], ANYTHING)), max_size=3),
    skipped=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(ILL, ANYTHING)), max_size=3),
    message=st.text(),
    host=st.text(),
)
def test_no_value_is_more_than_text(served: list[Any], skipped: list[Any], message: str, host: str) -> None:
    """Whatever the report holds, the page is made, and of its own tags and attributes only."""
    last = {"time": 1.0, "outcome": "failed", "message": message, "serving": True, "duration_ms": 1}
    shown = document(services=served, skipped=skipped, last=last, last_failure=last, up_to_date=False)
    reader = Reader(page(host, shown, [{"path": message, "reason": host}]))
    assert {tag for tag, _ in reader.tags} <= ALLOWED
    classes = {"good", "bad", "warn", "soft", "box", "wide", "facts", "more", "name", "place", "free", "told", "number", "state"}
    for tag, attributes in reader.tags:
        for name, value in attributes:
            assert (name == "class" and set(str(value).split()) <= classes) or tag in ("html", "meta"), (tag, attributes)


def test_instances_of_another_data_centre_are_told_apart() -> None:
    rows = instances({**SERVED, "backups": 21, "backup_servers": {"198.51.100.1:80": 100}}, [])
    assert ("198.51.100.1:80", "100", "", "good", "backup, healthy") in rows
    assert ("and 20 more", "", "", "good", "backup, healthy") in rows
