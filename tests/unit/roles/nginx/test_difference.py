# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The difference of two generations, whatever their size."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nginx_edge.difference import unified

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=12)


@given(LINES, LINES, LINES, LINES)
def test_it_is_a_difference(head: list[str], old: list[str], new: list[str], tail: list[str]) -> None:
    """With the names and the numbers of difflib, and applied to the old text it gives the new one."""
    before, after = head + old + tail, head + new + tail
    lines = list(unified(before, after, "one", "two"))
    assert (lines == []) is (before == after)
    assert lines[:2] == list(difflib.unified_diff(before, after, "one", "two"))[:2]
    made, at = [], 0
    for line in lines[2:]:
        if line.startswith("@@"):
            start, _comma, count = line.split()[1][1:].partition(",")
            begin = int(start) if count == "0" else int(start) - 1
            made += before[at:begin]
            at = begin
        elif line[0] == "+":
            made.append(line[1:])
        else:
            assert before[at] == line[1:]
            at += 1
            made += [] if line[0] == "-" else [line[1:]]
    assert made + before[at:] == after


@pytest.mark.parametrize("at", [3, 60_000, 119_999])
def test_one_line_of_many_alike(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A thousand services have the same lines, which difflib would compare with each other."""
    compared = []
    plain = difflib.unified_diff
    monkeypatch.setattr(difflib, "unified_diff", lambda old, new, *a, **k: compared.append(len(old)) or plain(old, new, *a, **k))
    old = [f"line {number % 120}\n" for number in range(120_000)]
    new = [*old[:at], "other\n", *old[at + 1 :]]
    assert [line for line in unified(old, new, "a", "b") if line[0] in "+-"][2:] == [f"-{old[at]}", "+other\n"]
    assert compared[0] <= 7
