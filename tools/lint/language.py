#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the documents for expressions of the word list language.txt and for long lines."""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS = Path(__file__).with_suffix(".txt")
#: The documents that are checked, as patterns below the root.
COVERED = ("README.md", "SECURITY.md", "bench/README.md", "docs/*.md")
WIDTH = 120

#: A span of code ends in its paragraph.
CODE_SPAN = re.compile(r"`(?:[^`\n]|\n(?![ \t]*\n))*`")
TARGET = re.compile(r"\]\([^)\s]*\)")
#: A line that cannot be wrapped: an item or a paragraph of one link or picture.
LINK = re.compile(r"[ \t>]*(?:[-*] |\d+\. )?!?\[[^\]]*\]\([^)]*\)[.,;:]?")
#: Between two words there may be one end of a line, with the mark of a quotation after it.
GAP = r"(?:[ \t]+|[ \t]*\n[ \t>]*)"
INDENTED = re.compile(r" {4}|\t")


def read_words(text: str) -> dict[str, str]:
    """Return the better expression for each expression of a word list."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = [line.split(" = ", 1) for line in lines]
    if wrong := [line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2]:
        raise ValueError(f"{WORDS.name}: '{wrong[0]}' is not of the form 'expression = better'")
    return dict(pairs)


def without_code_blocks(text: str) -> list[str]:
    """Return the lines of a document, empty where they belong to a code block."""
    lines: list[str] = []
    fenced = indented = False
    before = ""
    for line in text.splitlines():
        fence = line.lstrip(" >").startswith("```")
        indented = not fenced and bool(INDENTED.match(line)) and (indented or not before.strip())
        code = fenced or fence or indented
        fenced ^= fence
        lines.append("" if code else line)
        before = line if line.strip() else before if indented else ""
    return lines


def long_lines(lines: t.Sequence[str]) -> t.Iterator[tuple[int, str]]:
    """Return the number and the complaint for each line that should be wrapped."""
    for number, line in enumerate(lines, 1):
        if len(line) > WIDTH and not line.lstrip().startswith("|") and not LINK.fullmatch(line):
            yield number, f"{len(line)} characters, at most {WIDTH} are allowed: wrap the line"


def bad_expressions(lines: t.Sequence[str], words: t.Mapping[str, str]) -> t.Iterator[tuple[int, str]]:
    """Return the number of the line and the complaint for each expression of the word list."""
    text = "\n".join(lines)
    for pattern in (CODE_SPAN, TARGET):
        text = pattern.sub(lambda match: re.sub(r"[^\n]", "_", match[0]), text)
    for expression, better in words.items():
        pattern = re.compile(rf"\b{GAP.join(map(re.escape, expression.split()))}\b", re.IGNORECASE)
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, f"'{expression}': write '{better}'"


def complaints(text: str, words: t.Mapping[str, str]) -> list[tuple[int, str]]:
    """Return everything that is wrong with a document, by line."""
    lines = without_code_blocks(text)
    return sorted([*long_lines(lines), *bad_expressions(lines, words)])


def main() -> int:
    """Entry point."""
    words = read_words(WORDS.read_text(encoding="utf-8"))
    found = 0
    for path in sorted({path for pattern in COVERED for path in ROOT.glob(pattern)}):
        for number, complaint in complaints(path.read_text(encoding="utf-8"), words):
            found += 1
            print(f"{path.relative_to(ROOT)}:{number}: {complaint}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
