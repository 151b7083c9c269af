# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long to wait after failures of the agent or of Docker. Pure."""

from __future__ import annotations

# After the first, second, ... failure.
BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0)


def delay(failures: int) -> float:
    """Return the seconds to wait after so many earlier failures."""
    return BACKOFF[min(failures, len(BACKOFF) - 1)]
