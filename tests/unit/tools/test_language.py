# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The linter of the documents finds expressions of its list and long lines, outside of code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("lint_language", ROOT / "tools" / "lint" / "language.py")
assert spec is not None and spec.loader is not None
language = importlib.util.module_from_spec(spec)
sys.modules["lint_language"] = language
spec.loader.exec_module(language)

WORDS = {"for ever": "permanently", "shall": "must"}
LONG = "x" * 60 + " " + "y" * 60

WRONG = [
    ("It stays for ever.", ["1: 'for ever': write 'permanently'"]),
    ("Title\n\nIt stays For\never.", ["3: 'for ever': write 'permanently'"]),
    ("> It stays for\n> ever.", ["1: 'for ever': write 'permanently'"]),
    ("| it shall run |", ["1: 'shall': write 'must'"]),
    ("A `code` that shall run, and `more`.", ["1: 'shall': write 'must'"]),
    ("```\ncode\n```\nIt shall run.", ["4: 'shall': write 'must'"]),
    ("    code\n\nIt shall run.", ["3: 'shall': write 'must'"]),
    ("- an item\n    that shall run", ["2: 'shall': write 'must'"]),
    (LONG, ["1: 121 characters, at most 120 are allowed: wrap the line"]),
    (f"- [{LONG}](x.md) and more", ["1: 140 characters, at most 120 are allowed: wrap the line"]),
]
RIGHT = [
    "A shallow forever.",
    "for\n\never",
    "`it shall run`, `for\never`",
    "[a page](shall.md#shall)",
    "```\nit shall run\n```",
    "text\n\n    it shall run\n\n    for ever\n",
    "- item\n\n      it shall run",
    f"| {LONG} |",
    f"    {LONG}",
    f"```\n{LONG}\n```",
    f"- [{LONG}](x.md)",
    f"![{LONG}](x.svg)",
]


@pytest.mark.parametrize(("text", "found"), WRONG)
def test_what_is_wrong_is_found_by_its_line(text: str, found: list[str]) -> None:
    assert [f"{number}: {complaint}" for number, complaint in language.complaints(text, WORDS)] == found


@pytest.mark.parametrize("text", RIGHT)
def test_code_links_and_tables_are_exempt(text: str) -> None:
    assert language.complaints(text, WORDS) == []


def test_the_list_gives_a_better_expression_for_each() -> None:
    assert language.read_words("# a comment\n\nfor ever = permanently\n") == {"for ever": "permanently"}
    with pytest.raises(ValueError, match="'for ever' is not of the form"):
        language.read_words("for ever\n")


def test_the_covered_documents_exist() -> None:
    assert all([*ROOT.glob(pattern)] for pattern in language.COVERED)
    words = language.read_words(language.WORDS.read_text(encoding="utf-8"))
    assert len(words) > 20 and not set(words) & set(words.values())
