# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is tried, and with which numbers.

``FUZZ_CATALOGUES`` sets the number of catalogues, ``FUZZ_SEED`` the seed (``random`` draws one); both are printed at the end, so that a run
can be repeated. ``FUZZ_TREES`` sets the number of staging directories. The seed of ``make test`` is always the same: a
change must not fail for the bad luck of a draw. ``make fuzz`` draws a new one each time. ``FUZZ_SHRINK=no`` shows the first
failure as it is, at once.
"""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, Phase, settings

CATALOGUES = int(os.environ.get("FUZZ_CATALOGUES") or 200)
TREES = int(os.environ.get("FUZZ_TREES") or 150)
_SEED = os.environ.get("FUZZ_SEED") or "1"
SEED = random.SystemRandom().randrange(2**32) if _SEED == "random" else int(_SEED)
SHRINK = [] if os.environ.get("FUZZ_SHRINK") == "no" else [Phase.shrink]

#: What a run of the usual size must have tried at least.
LEAST_CATALOGUES, LEAST_SERVICES = 150, 2000

FUZZ = settings(
    max_examples=max(10, CATALOGUES * 2 // 3),
    # Real programs take the time they take, and a catalogue is large.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much],
    # A failure is repeated by its seed or its blob; a database would make runs differ.
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate, *SHRINK],
)
#: For each of some thirty catalogues that others are drawn around.
AROUND = settings(FUZZ, max_examples=max(1, CATALOGUES // 100))
FOLLOW = settings(FUZZ, max_examples=max(10, CATALOGUES // 10))
