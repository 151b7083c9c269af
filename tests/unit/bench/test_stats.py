# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statistics of the benchmarks."""

from __future__ import annotations

import pytest

from bench.stats import paired_ratio, percentile, rounded, summarize


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([7], 0.95, 7),
        ([1, 2], 0.5, 1.5),
        ([3, 1, 2], 0.5, 2),
        ([4, 1, 3, 2], 0, 1),
        ([4, 1, 3, 2], 1, 4),
        (list(range(101)), 0.95, 95),
        ([10, 20], 0.95, 19.5),
    ],
)
def test_percentile(samples: list[float], share: float, expected: float) -> None:
    assert percentile(samples, share) == pytest.approx(expected)


def test_percentile_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="share is 95"):
        percentile([1.0], 95)


def test_summary_of_a_row_with_one_far_out() -> None:
    summary = summarize([10, 11, 12, 13, 1000])
    assert summary == (5, 12, pytest.approx(802.6), 10, 1000, 2)


def test_paired_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians() -> None:
    # The third pair fell into a busy moment, which hit both sides.
    assert paired_ratio([10, 30, 400], [10, 10, 200]) == 2
    with pytest.raises(ValueError, match="2 and 1 samples make no pairs"):
        paired_ratio([1, 2], [1])
    with pytest.raises(ValueError, match="0 and 0"):
        paired_ratio([], [])


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (0.0123456, 0.01235), (1.23456, 1.235), (12345.6, 12350), (999.96, 1000.0), (-1.23456, -1.235)])
def test_rounded_keeps_four_digits(value: float, expected: float) -> None:
    assert rounded(value) == expected
