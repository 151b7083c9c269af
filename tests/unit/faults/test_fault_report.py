# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures, limits and the report of the faults."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import fault_report
import pytest
from fault_report import WRONG, Limit, Record, Sample

# A fault at 10; the load began at 4.
SAMPLES = [
    Sample("http new", "consul-1", 5.0, 0.01),
    Sample("http kept", "consul-1", 9.9, 1.5),
    Sample("http new", "consul-2", 11.0, 0.2, "502 <bad>"),
    Sample("http new", "consul-2", 12.0, 0.1, f"{WRONG}: other"),
    Sample("http kept", "consul-2", 12.5, 0.1),
    Sample("tcp", "consul-2", 12.6, 0.1),
    Sample("tls", "consul-2", 12.7, 2.5),
    Sample("dns host", "consul-3", 30.0, 5.0, "no answer"),
    Sample("dns container", "consul-3", 31.0, 0.1),
]


def record() -> Record:
    made = Record("sample", "A <fault>", "0 failed & nothing slow", proof="process 7 is <gone>", measured="today", seconds=30.0)
    made.events = [(6.0, "fault"), (29.0, "all is <right>")]
    made.figures = fault_report.figures(SAMPLES, 10.0)
    made.limits = [Limit("http_failed", "=", 0), Limit("http_slow", "<=", 1), Limit("right_s", "<", 15)]
    made.lanes = fault_report.lanes(SAMPLES, 4.0, 30.0)
    made.troubles = fault_report.troubles(SAMPLES, 4.0)
    return made


def test_figures() -> None:
    found = fault_report.figures(SAMPLES, 10.0)
    assert (found["http_requests"], found["http_failed"], found["http_slow"], found["http_wrong"]) == (5, 2, 1, 1)
    assert found["http_failed_later"] == 0
    assert fault_report.figures(SAMPLES, 6.5)["http_failed_later"] == 1
    assert found["http_slow_percent"] == 20.0 and found["http_failed_percent"] == 40.0 and found["http_slowest_s"] == 1.5
    assert (found["tcp_requests"], found["tcp_failed"], found["tls_slow"]) == (1, 0, 1)
    assert (found["dns_host_requests"], found["dns_host_failed"], found["dns_container_failed"], found["dns_failed"]) == (1, 1, 0, 1)
    # The TLS request that ended at 15.2; names are no trouble of callers at the edges.
    assert found["last_trouble_s"] == 5.2
    assert found["trouble_span_s"] == 5.3


def test_figures_of_a_part() -> None:
    found = fault_report.figures(SAMPLES, 10.0, since=10.0)
    assert found["http_requests"] == 3 and found["http_slow"] == 0


def test_calls_of_a_service_that_calls_another_one_are_counted_by_themselves() -> None:
    calls = [Sample("front new", "consul-1", 11.0, 2.0), Sample("front kept", "consul-1", 20.0, 0.1, "502")]
    found = fault_report.figures([*SAMPLES, *calls], 10.0)
    assert (found["front_requests"], found["front_failed"], found["front_slow"]) == (2, 1, 1)
    assert (found["front_failed_later"], found["front_slow_percent"], found["front_slowest_s"]) == (1, 50.0, 2.0)
    assert found["http_requests"] == 5 and found["last_trouble_s"] == 10.1


def test_calls_by_name_are_judged_once_the_loss_of_a_node_was_noticed() -> None:
    calls = [
        Sample("front new", "consul-1", 24.9, 2.0),
        Sample("front new", "consul-1", 25.1, 0.1),
        Sample("front new", "consul-1", 26.0, 1.1),
        Sample("front kept", "consul-2", 27.0, 0.1, "502"),
        Sample("front kept", "consul-2", 40.1, 2.0),
        Sample("http new", "consul-2", 30.0, 2.0),
    ]
    assert fault_report.late_troubles(calls, 10.0, 40.0) == 2


def test_slow_lookups_count_but_for_those_of_a_node_that_is_away() -> None:
    assert fault_report.figures(SAMPLES, 10.0)["dns_slow"] == 1
    assert fault_report.figures(SAMPLES, 10.0)["dns_slowest_s"] == 5.0
    away = fault_report.figures(SAMPLES, 10.0, away=("consul-3",))
    assert (away["dns_slow"], away["dns_slowest_s"]) == (0, 0.0)


def test_no_trouble() -> None:
    found = fault_report.figures([Sample("http new", "consul-1", 5.0, 0.01)], 10.0)
    assert found["last_trouble_s"] == 0 and found["trouble_span_s"] == 0 and found["http_slow_percent"] == 0
    assert fault_report.figures([], 10.0)["http_slow_percent"] == 0


def test_lanes_count_each_call_once() -> None:
    found = fault_report.lanes(SAMPLES, 4.0, 29.5)
    assert len(found["http"]) == 30
    assert found["http"][1] == [1, 0, 0] and found["http"][5] == [1, 1, 0] and found["http"][8] == [2, 0, 1]
    assert found["DNS, hosts"][26] == [1, 0, 1], "what is slow and wrong is wrong"
    assert sum(cell[0] for cells in found.values() for cell in cells) == len(SAMPLES)


def test_troubles_are_told_in_order_and_not_all_of_them() -> None:
    wrong, *lines = fault_report.troubles(SAMPLES, 4.0)
    assert fault_report.WRONG in wrong, "however late it was"
    assert lines[0] == "5.90 s: http kept at consul-1: slow (after 1.50 s)"
    assert lines[1] == "7.00 s: http new at consul-2: 502 <bad> (after 0.20 s)"
    many = fault_report.troubles([Sample("tcp", "x", float(number), 0.1, "no") for number in range(100)], 0.0)
    assert len(many) == fault_report.TROUBLES_KEPT + 1 and many[-1] == "... and 60 more"


@pytest.mark.parametrize(
    ("limit", "met"),
    [
        (Limit("a", "=", 2), True),
        (Limit("a", "<", 2), False),
        (Limit("a", "<=", 2), True),
        (Limit("a", ">=", 3), False),
        (Limit("not_measured", "=", 0), False),
    ],
)
def test_limits(limit: Limit, met: bool) -> None:
    assert limit.met({"a": 2.0}) is met


def test_what_does_not_hold_is_said() -> None:
    made = record()
    assert made.unmet() == ["http_failed is 2, must be = 0", "right_s is nan, must be < 15"]
    assert not made.held
    made.limits = []
    assert made.held
    made.notes.append("It was broken off.")
    assert not made.held


def test_the_files(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "faults.json"
    made = record()
    fault_report.write(path, [made], {"commit": "abc", "processors": 2, "kernel": "6.1"})
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert document["machine"]["commit"] == "abc" and len(text.splitlines()) == 1 + len(document["faults"]) + 1
    entry = document["faults"]["sample"]
    assert entry["figures"]["http_failed"] == 2 and entry["held"] is False
    assert entry["limits"]["http_slow"] == {"must_be": "<= 1", "met": True}
    assert fault_report.read(path) == [made], "an earlier run can be read back"
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "<bad>" not in page and "<fault>" not in page and "A &lt;fault&gt;" in page
    table = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    assert table[2] == "| A &lt;fault> | 0 failed & nothing slow | 5 | 2 | 1 | 0 | 0 | 0 | 0 | 1 | 1 | 5.2 |  | no |"
    # Nothing is loaded from elsewhere; the one address is the name of SVG.
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "src=" not in page and "<link" not in page and "<script" not in page


def test_the_picture_is_well_formed() -> None:
    root = ET.fromstring(fault_report.picture(record()))
    bars = dict.fromkeys(fault_report.COLOURS.values(), 0)
    for element in root.iter("{http://www.w3.org/2000/svg}path"):
        bars[element.get("fill", "")] += element.get("d", "").count("M")
    assert bars[fault_report.COLOURS["failed"]] == 3 and bars[fault_report.COLOURS["slow"]] == 2
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "6.0 s fault" in texts and "29.0 s all is <right>" in texts
    ET.fromstring(fault_report.picture(Record("empty", "Nothing", "nothing")))
