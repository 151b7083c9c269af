# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two long texts that are nearly the same. No I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

CONTEXT = 3
_HUNK = re.compile(r"^@@ -(\d+)((?:,\d+)?) \+(\d+)((?:,\d+)?) @@", re.ASCII)


def unified(old: Sequence[str], new: Sequence[str], old_name: str, new_name: str) -> Iterator[str]:
    """Return what ``difflib.unified_diff`` does, without comparing what both have at beginning and end: a thousand
    services with the same lines take it a minute."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    tail = next((at for at in range(shorter - head) if old[-1 - at] != new[-1 - at]), shorter - head)
    head, tail = max(0, head - CONTEXT), max(0, tail - CONTEXT)
    parts = (old[head : len(old) - tail], new[head : len(new) - tail])
    for line in difflib.unified_diff(*parts, old_name, new_name, n=CONTEXT):
        yield _HUNK.sub(lambda hunk: f"@@ -{int(hunk[1]) + head}{hunk[2]} +{int(hunk[3]) + head}{hunk[4]} @@", line)
