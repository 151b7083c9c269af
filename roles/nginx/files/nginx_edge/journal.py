# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for the journal."""

from __future__ import annotations

import os
import sys

SEVERITY = {"applied": 6, "unchanged": 6, "repaired": 5, "rolled_back": 5, "held": 5, "refused": 4, "failed": 3}


def log(outcome: str, message: str) -> None:
    """Write one line for the journal, with its priority."""
    prefix = f"<{SEVERITY.get(outcome, 5)}>" if os.environ.get("JOURNAL_STREAM") else ""
    print(f"{prefix}nginx-edge: {outcome}: {message}", file=sys.stderr, flush=True)
