# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine next to the original registrator and its best-kept fork, field by field.

``originals.jsonl`` holds what these registered of real containers, as ``record_originals.py`` recorded it. Whatever the
engine makes of the same containers' documents is equal, or the difference has a name and a row in the role's README.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
sys.path[:0] = [str(HERE), str(ROOT / "roles" / "registrator" / "files")]

from originals import MODES, Difference, Record, Service, differences, registered
from originals_cases import CASES
from originals_differences import RULES, Seen
from registrator.facts import facts_of
from registrator.model import Facts

README = ROOT / "roles" / "registrator" / "README.md"
SIDES = ("gliderlabs", "fayrus")
LINES = (HERE / "originals.jsonl").read_text(encoding="utf-8").splitlines()
RECORDS = {record.name: record for record in map(Record, map(json.loads, LINES))}


def owner_of(record: Record) -> Facts | None:
    """Return the container whose network a container shares."""
    found = re.search(r"container:(\S+)", record.options)
    return facts_of(RECORDS[found[1]].document) if found else None


def seen(record: Record) -> Iterator[Seen]:
    """Find the differences of one container, in all modes and against both originals."""
    for mode in MODES:
        ours = registered(record.document, mode, owner_of(record))
        for side in SIDES:
            for found in differences(ours, record.theirs(side, mode)):
                yield Seen(record, side, mode, found)


def names(found: Seen) -> list[str]:
    """Return the names that a difference goes by."""
    return [name for name, is_it in RULES.items() if is_it(found)]


def test_the_record_is_complete() -> None:
    assert len(CASES) >= 200
    wanted = [(case.name, " ".join(shlex.split(case.options)), case.image, list(case.then)) for case in CASES]
    assert [(record.name, record.options, record.image, record.then) for record in RECORDS.values()] == wanted
    # An empty record would agree with an engine that registers nothing.
    assert sum(bool(record.theirs("gliderlabs", "default")) for record in RECORDS.values()) > 200
    assert sum(len(record.theirs("fayrus", "internal")) for record in RECORDS.values()) > 250


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_every_difference_has_one_name(record: Record) -> None:
    problems = [
        f"{found.side} [{found.mode}] {found.service} {found.field}: {found.ours!r}, {found.theirs!r}: {names(found)}"
        for found in seen(record)
        if len(names(found)) != 1
    ]
    assert not problems, f"{record.options}\n" + "\n".join(problems)


def test_every_named_difference_is_seen_and_documented() -> None:
    found = {name for record in RECORDS.values() for difference in seen(record) for name in names(difference)}
    assert found == set(RULES), "a rule without a case may hide a mistake"
    section = README.read_text(encoding="utf-8").split("### Differences by name\n")[1].split("\n#")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE) == list(RULES)


def service(**changes: object) -> Service:
    values = {"id": "a", "name": "n", "address": "192.0.2.2", "port": 1, "tags": [], "meta": {}, "checks": []}
    return Service.of_data({**values, **changes})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "m"}, "name"),
        ({"address": ""}, "address"),
        ({"port": 2}, "port"),
        ({"tags": ["t"]}, "tags"),
        ({"meta": {"k": "v"}}, "meta.k"),
        ({"weight": 2}, "weight"),
        ({"override": True}, "override"),
        ({"checks": [{"CheckID": "c", "TTL": 1.0}]}, "check"),
        ({"id": "b"}, "registered"),
    ],
)
def test_every_field_is_compared(changes: dict[str, object], field: str) -> None:
    assert field in {found.field for found in differences([service()], [service(**changes)])}
    assert differences([service(**changes)], [service(**changes)]) == []


def test_checks_are_compared_by_field_and_durations_by_value() -> None:
    ours, theirs = ({"CheckID": "c", "Interval": value} for value in (10.0, 15.0))
    found = differences([service(checks=[ours])], [service(checks=[theirs])])
    assert found == [Difference("a", "check.Interval", 10.0, 15.0)]
